//! How backends are asked for their health.

use std::future::poll_fn;

use http::{Request, Uri};
use tenfold_load_balancer::{HttpProbe, Probe, ProbeResult, TcpProbe};

use crate::clock;
use crate::link::{ConnectError, Line, Upload};

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
    pub(crate) async fn send(self, probe: Probe) -> ProbeResult {
        match self {
            Self::Nobody => ProbeResult::Good,
            Self::Tcp => TcpProbe.send(probe).await,
            Self::Http(http, _) => http.send(probe).await,
            Self::Http2(path) => ask(probe, &path).await,
        }
    }
}

/// Whether it answers over HTTP/2 with a status from 200 to 399.
async fn ask(probe: Probe, path: &str) -> ProbeResult {
    match Line::connect(probe.address, probe.timeout, MAX_HEADER_BYTES).await {
        Ok((line, run)) => tokio::select! {
            () = run => ProbeResult::Bad,
            is_good = is_good(probe, path, &line) => is_good.unwrap_or(false).into(),
        },
        Err(ConnectError::Local) => ProbeResult::Unasked,
        Err(_) => ProbeResult::Bad,
    }
}

/// Nothing, if there is no answer.
async fn is_good(probe: Probe, path: &str, line: &Line) -> Option<bool> {
    let authority = probe.address.to_string();
    let uri = Uri::builder().scheme("http").authority(authority).path_and_query(path).build().ok()?;
    let mut upload = Upload::to_http2(Request::get(uri).body(()).ok()?, None, 0, clock::now());
    let mut stream = line.open(&mut upload)?;
    let status = poll_fn(|cx| stream.poll_head(cx, &mut upload)).await.ok()?.status;
    Some(status.is_success() || status.is_redirection())
}
