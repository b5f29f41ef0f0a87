//! How backends are asked for their health.

use std::future::poll_fn;

use http::{Request, Uri};
use tenfold_load_balancer::{HttpProbe, Probe, TcpProbe};

use crate::clock;
use crate::link::{Line, Upload};

/// The head of an answer to a probe.
const MAX_HEADER_BYTES: usize = 16 << 10;

/// What is sent to a backend to learn how it is.
#[derive(Clone, Debug)]
pub(crate) enum Prober {
    /// Nothing: requests alone tell.
    Nobody,
    /// A connection.
    Tcp,
    /// A request for this path, on a connection of its own.
    Http(HttpProbe, String),
    /// The same over HTTP/2.
    Http2(String),
}

impl Prober {
    /// Whether anything is sent.
    pub(crate) fn sends(&self) -> bool {
        !matches!(self, Self::Nobody)
    }

    /// Says whether the backend is well. It may take for ever.
    pub(crate) async fn send(self, probe: Probe) -> bool {
        match self {
            Self::Nobody => true,
            Self::Tcp => TcpProbe.send(probe).await,
            Self::Http(http, _) => http.send(probe).await,
            Self::Http2(path) => ask(probe, &path).await.unwrap_or(false),
        }
    }
}

/// Whether it answers over HTTP/2 with a status from 200 to 399; nothing if it does not answer.
async fn ask(probe: Probe, path: &str) -> Option<bool> {
    let authority = probe.address.to_string();
    let uri = Uri::builder().scheme("http").authority(authority).path_and_query(path).build().ok()?;
    let mut upload = Upload::to_http2(Request::get(uri).body(()).ok()?, None, 0, clock::now());
    let (line, run) = Line::connect(probe.address, probe.timeout, MAX_HEADER_BYTES).await.ok()?;
    let mut stream = line.open(&mut upload)?;
    tokio::select! {
        () = run => None,
        head = poll_fn(|cx| stream.poll_head(cx, &mut upload)) => {
            let status = head.ok()?.status;
            Some(status.is_success() || status.is_redirection())
        }
    }
}
