//! How backends are asked for their health.

use tenfold_load_balancer::{HttpProbe, Probe, TcpProbe};

/// What is sent to a backend to learn how it is.
#[derive(Clone, Debug)]
pub(crate) enum Prober {
    /// Nothing: requests alone tell.
    Nobody,
    /// A connection.
    Tcp,
    /// A request, on a connection of its own.
    Http(HttpProbe),
}

impl Prober {
    /// Whether anything is sent.
    pub(crate) fn sends(&self) -> bool {
        !matches!(self, Self::Nobody)
    }

    /// Says whether the backend is well.
    pub(crate) async fn send(self, probe: Probe) -> bool {
        match self {
            Self::Nobody => true,
            Self::Tcp => TcpProbe.send(probe).await,
            Self::Http(http) => http.send(probe).await,
        }
    }
}
