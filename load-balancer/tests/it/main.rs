//! The balancer through its public face.

mod discovery;
mod drained;
mod fairness;
mod grey;
mod health;
mod host_data;
mod keyed;
mod model;
mod pools;
mod threads;

use std::net::{Ipv4Addr, SocketAddr};

use tenfold_load_balancer::{Backend, BackendId, Balancer, Policy};

/// The address of the backend with this number.
fn address(number: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 1000 + number))
}

fn backend(number: u16) -> Backend {
    Backend::new(address(number))
}

fn id(number: u16) -> BackendId {
    backend(number).id()
}

/// The number of the backend at this address.
fn number(address: SocketAddr) -> u16 {
    address.port() - 1000
}

/// A balancer over backends 0 to `count` - 1.
fn balancer(policy: Policy, count: u16) -> Balancer {
    let balancer = Balancer::builder().policy(policy).seed(1).build().unwrap();
    balancer.replace((0..count).map(backend).collect()).unwrap();
    balancer
}
