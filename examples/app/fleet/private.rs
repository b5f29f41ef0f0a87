//! r13: the servers behind the balancer are at private addresses, and it takes no others.

use std::net::{IpAddr, SocketAddr};

use hyper::StatusCode;
use tenfold_load_balancer::AddressPolicy;
use tenfold_rig::{Claim, RoleResult};

use super::Fleet;
use crate::sockets::{Protocol, listening};

/// An address that anybody may own: what a discovery source that was taken over would name.
const PUBLIC: &str = "8.8.8.8:80";

/// The claims of r13 on one machine; `careless` has a balancer that takes any address.
///
/// # Errors
///
/// A process is gone, or a balancer does not answer.
pub async fn private(fleet: &Fleet, careless: &Fleet) -> RoleResult<Vec<Claim>> {
    let front = fleet.stack.fronts.first().ok_or("a front is needed")?.ip();
    let nodes = fleet.webs.iter().chain([&fleet.database]);
    let sockets: Vec<_> = nodes.map(|node| listening(node.pid())).collect::<Result<_, _>>()?;
    let sockets: Vec<_> = sockets.into_iter().flatten().collect();
    let is_apart = |address: &SocketAddr| AddressPolicy::PrivateOnly.check(*address).is_ok() && address.ip() != front;
    let apart = sockets.iter().filter(|(protocol, address)| *protocol == Protocol::Tcp && is_apart(address)).count();
    let balancer = listening(fleet.operator()?.balancer.pid())?;
    let at_front = balancer.iter().filter(|(_, address)| address.ip() == front).count();
    let holds = apart == sockets.len() && apart == fleet.webs.len() + 1 && at_front > 0;
    let refused = fleet.operator()?.add(PUBLIC.parse()?).await?;
    let taken = careless.operator()?.add(PUBLIC.parse()?).await?;
    Ok(vec![
        Claim::new("r13", "web and database servers listen on private addresses only", apart, holds)
            .control(at_front)
            .unit("sockets")
            .note(format!("{}; control: the balancer's, at {front}", subnets(&sockets))),
        Claim::new("r13", "the balancer refuses a server at a public address", refused.as_u16().to_string(), {
            refused == StatusCode::UNPROCESSABLE_ENTITY && taken.is_success()
        })
        .control(taken.as_u16().to_string())
        .unit("HTTP status")
        .note(format!("{PUBLIC}; control: a balancer that takes any address")),
    ])
}

fn subnets(sockets: &[(Protocol, SocketAddr)]) -> String {
    let addresses: Vec<IpAddr> = sockets.iter().map(|(_, address)| address.ip()).collect();
    let words: Vec<_> = addresses.iter().map(IpAddr::to_string).collect();
    words.join(", ")
}
