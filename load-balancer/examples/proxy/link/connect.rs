//! A connection to a backend, and whose fault it is if there is none.

use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectError {
    /// Nobody serves there.
    Refused,
    /// Nobody said anything in time.
    TimedOut,
    /// There is no socket, port or memory for it on this side, or it is not allowed: this says nothing of the backend.
    Local,
}

impl ConnectError {
    /// By a list of what comes from the other side: whatever is not on it is ours, since blaming every backend for a lack
    /// of descriptors would empty the pool.
    pub(crate) fn of(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable => Self::Refused,
            ErrorKind::TimedOut => Self::TimedOut,
            _ => Self::Local,
        }
    }
}

/// Connects within this time.
///
/// # Cancel safety
/// Cancel safe: the attempt is given up.
pub(crate) async fn connect(address: SocketAddr, timeout: Duration) -> Result<TcpStream, ConnectError> {
    let connected = tokio::time::timeout(timeout, TcpStream::connect(address)).await;
    let stream = connected.map_err(|_| ConnectError::TimedOut)?.map_err(|error| ConnectError::of(&error))?;
    // A connection that was reset meanwhile tells so when it is used.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}
