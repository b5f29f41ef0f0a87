//! r13, with real networks: the servers on a private one, the clients on another, the balancer with a leg in each.
//!
//! The system runs in a network namespace of its own, the island, which needs no root. Its clients run in a second one,
//! joined to the first by a virtual cable that ends at the balancer. Whether they can reach a server is then up to the
//! kernel's routes.
//!
//! ```text
//! client 172.16.0.2 ──cable── 172.16.0.1 balancer │ 10.77.1.1 .. web servers │ 10.77.2.1 database
//! ```

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::extract::{Query, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use hyper::Method;
use serde::{Deserialize, Serialize};
use tenfold_rig::{Claim, NodeSpec, Role, RoleResult, Supervisor, enter_next_network, enter_own_network, ip};
use tokio::net::TcpStream;

use super::Fleet;
use crate::http::Http;

/// Where clients find the balancer.
pub(super) const FRONT: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 2);
/// The servers' network.
const SERVERS: &str = "10.77.0.0/16";
const TIMEOUT: Duration = Duration::from_secs(5);

/// What a client in a network of its own could reach.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Island {
    /// What came of asking the balancer: a status.
    pub balancer: String,
    /// What came of asking a web server: why not, or a status.
    pub server: String,
    /// The same once the client had a route to the servers' network.
    pub routed: String,
    /// Why there is no island here.
    pub impossible: Option<String>,
}

/// The role of the island: enters a network of its own, starts there what `start` starts, and answers `GET /` with what
/// a client found out. `client_role` is the name of the role [`client`].
///
/// # Errors
///
/// It cannot serve; that there can be no island here is an answer.
pub async fn explore<C, F, Fut>(mut role: Role<C>, client_role: &str, start: F) -> RoleResult
where
    C: Clone,
    F: FnOnce(C) -> Fut,
    Fut: Future<Output = RoleResult<Fleet>>,
{
    let config = role.config.clone();
    let found = match enter_own_network() {
        Ok(()) => found(client_role, || start(config)).await,
        Err(error) => Err(error.into()),
    };
    let found = found.unwrap_or_else(|error| Island { impossible: Some(error.to_string()), ..Island::default() });
    let routes = Router::new().route("/", get(move || async move { Json(found) }));
    let (listener, stop) = (role.ready()?, role.stop());
    Ok(axum::serve(listener, routes).with_graceful_shutdown(stop.wait()).await?)
}

async fn found<F, Fut>(client_role: &str, start: F) -> RoleResult<Island>
where
    F: FnOnce() -> Fut,
    Fut: Future<Output = RoleResult<Fleet>>,
{
    ip("link set lo up").await?;
    // On the loopback of the island, every address of the servers' network is one of its own.
    ip("addr add 10.77.0.1/16 dev lo").await?;
    let tiers = Supervisor::new()?;
    let client = tiers.spawn(NodeSpec::new(client_role, "client")).await?;
    ip(&format!("link add cable type veth peer name eth0 netns {}", client.pid())).await?;
    ip(&format!("addr add {FRONT}/24 dev cable")).await?;
    ip("link set cable up").await?;
    let http = Http::new(TIMEOUT);
    http.call(Method::POST, client.addr(), "/up", Bytes::new()).await?.json::<Result<(), String>>()??;
    let fleet = start().await?;
    let front = *fleet.stack.fronts.first().ok_or("a front is needed")?;
    let server = fleet.webs.first().ok_or("a web server is needed")?.addr();
    let ask = async |to: SocketAddr| -> RoleResult<String> {
        Ok(http.get(client.addr(), &format!("/ask?to={to}")).await?.json()?)
    };
    let (balancer, unrouted) = (ask(front).await?, ask(server).await?);
    http.call(Method::POST, client.addr(), "/route", Bytes::new()).await?.json::<Result<(), String>>()??;
    Ok(Island { balancer, server: unrouted, routed: ask(server).await?, impossible: None })
}

/// The role of a client: enters a second network and does there what it is asked over its first one.
///
/// | route | does |
/// |---|---|
/// | `POST /up` | gives its end of the cable an address |
/// | `POST /route` | adds a route to the servers' network |
/// | `GET /ask?to=A` | asks A for user 123: the status, or why there is none |
///
/// # Errors
///
/// It cannot enter the network, or cannot serve.
pub async fn client(mut role: Role<()>) -> RoleResult {
    enter_next_network()?;
    let up = async || -> std::io::Result<()> {
        ip(&format!("addr add {CLIENT}/24 dev eth0")).await?;
        ip("link set eth0 up").await
    };
    let route = async || ip(&format!("route add {SERVERS} via {FRONT}")).await;
    let said = |done: std::io::Result<()>| Json(done.map_err(|error| error.to_string()));
    let routes = Router::new()
        .route("/up", post(move || async move { said(up().await) }))
        .route("/route", post(move || async move { said(route().await) }))
        .route("/ask", get(ask))
        .with_state(Http::new(TIMEOUT));
    let (listener, stop) = (role.ready()?, role.stop());
    Ok(axum::serve(listener, routes).with_graceful_shutdown(stop.wait()).await?)
}

#[derive(Deserialize)]
struct To {
    to: SocketAddr,
}

async fn ask(State(http): State<Http>, Query(To { to }): Query<To>) -> Json<String> {
    // Connects by itself first: of a client's error, the kernel's word is what matters here.
    let answer = match TcpStream::connect(to).await {
        Err(error) => error.to_string(),
        Ok(_) => match http.get(to, "/users/123").await {
            Ok(answer) => answer.status.as_u16().to_string(),
            Err(error) => error.to_string(),
        },
    };
    Json(answer)
}

/// The claim of r13 between networks. Where there can be none, that is said.
pub fn island_claim(island: &Island) -> Claim {
    let text = "a client on another network has no route to a server, and gets its answer through the balancer";
    if let Some(why) = &island.impossible {
        return Claim::new("r13", text, "not tried", true).note(format!("no network of one's own here: {why}"));
    }
    let holds = island.balancer == "200" && island.routed == "200" && island.server.contains("unreachable");
    Claim::new("r13", text, format!("server: {}; balancer: {}", island.server, island.balancer), holds)
        .control(format!("server: {}", island.routed))
        .note("control: the same client once it has a route to the servers' network")
}
