//! The load balancer as a process: the only address that clients know, in front of servers that they cannot reach.
//!
//! Choosing, retries, hedges and health are `tenfold-load-balancer`'s; here is only what makes a server of it: HTTP in,
//! HTTP out, and an address of its own at which operators change the pool.
//!
//! | at | route | answers |
//! |---|---|---|
//! | front | everything | what a backend answered; 502 if none could, 504 if none did in time, 503 if none takes requests |
//! | admin | `GET /backends` | each backend's address, state and requests in flight |
//! | admin | `GET /counts` | requests, and the tries that they took |
//! | admin | `POST /backends/add?addr=A` | 204; 422 for an address that backends may not have |
//! | admin | `POST /backends/drain?addr=A` | 204 when its last request has ended; 404 if it is not there |
//! | admin | `POST /backends/remove?addr=A` | 204; 404 |

mod admin;
mod config;
mod forward;
mod upstream;

pub use admin::{BackendView, Counts};
pub use config::{BalancerConfig, Member, Rules};

use std::net::Ipv4Addr;
use std::sync::Arc;

use axum::Router;
use tenfold_rig::{Role, RoleResult};
use tokio::net::TcpListener;

use forward::Front;

/// The whole role: serves until it is told to stop. The admin address is announced as `admin`.
///
/// # Errors
///
/// A configuration that cannot be, a backend at a public address, or no socket.
pub async fn serve(mut role: Role<BalancerConfig>) -> RoleResult {
    let (front_routes, admin_routes) = routers(&role.config)?;
    let admin = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    role.announce("admin", admin.local_addr()?);
    let (listener, stop) = (role.ready()?, role.stop());
    let (serving, administering) = (axum::serve(listener, front_routes), axum::serve(admin, admin_routes));
    tokio::try_join!(
        serving.with_graceful_shutdown(stop.clone().wait()),
        administering.with_graceful_shutdown(stop.wait()),
    )?;
    Ok(())
}

/// The routes for clients and those for operators, for a host that serves them itself.
///
/// # Errors
///
/// A configuration that cannot be, or a backend at a public address.
pub fn routers(config: &BalancerConfig) -> RoleResult<(Router, Router)> {
    let front = Arc::new(Front::new(config)?);
    Ok((forward::router(Arc::clone(&front)), admin::router(front)))
}
