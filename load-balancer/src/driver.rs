//! Sends the probes, on tokio: what the rest of the crate only schedules.
//!
//! One future does it all. The host spawns it and stops it by dropping it; it spawns nothing itself. At most
//! [`ProbeConfig::max_concurrent`](crate::ProbeConfig) probes are under way, and none longer than its time-out.
//!
//! A probe is a closure. [`TcpProbe`] and [`HttpProbe`] are two that most hosts need: each opens a connection of its
//! own, since what a kept-alive connection answers says nothing of whether new ones are taken.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use self::status::parse_status;
use crate::time::Time;
use crate::{BackendId, BackendStats, Balancer, LoadReport, Probe, ProbeResult};

mod status;
#[cfg(test)]
mod tests;

/// The longest sleep: so late a probe may be that was asked for meanwhile, because a backend got suspect or is new.
const MAX_SLEEP: Duration = Duration::from_millis(100);

/// Sends the probes of this balancer, as often as its [`ProbeConfig`](crate::ProbeConfig) says, and lets its time pass;
/// for ever.
///
/// `probe` says whether a backend is well, by a `bool` or a [`ProbeResult`]. It may take as long as it wants: it is dropped
/// at its time-out.
///
/// # Cancel safety
/// Dropping it stops the probes under way; they count as failed only if nobody goes on in its place.
///
/// # Examples
/// ```no_run
/// # async fn host() -> Result<(), Box<dyn std::error::Error>> {
/// use tenfold_load_balancer::{Balancer, Config, HttpProbe, ProbeConfig, drive_probes};
///
/// let config = Config { probes: Some(ProbeConfig::default()), ..Config::default() };
/// let balancer: Balancer = Balancer::builder().config(config).build()?;
/// let http = HttpProbe::new("/healthz")?;
/// tokio::spawn(drive_probes(balancer.clone(), move |probe| http.clone().send(probe)));
/// # Ok(())
/// # }
/// ```
pub async fn drive_probes<T, F, R>(balancer: Balancer<T>, probe: F)
where
    F: Fn(Probe) -> R,
    R: Future<Output: Into<ProbeResult>>,
{
    let mut under_way: Vec<Pin<Box<_>>> = Vec::new();
    loop {
        let now = now();
        let tick = balancer.tick(now);
        let (due, next) = balancer.due_probes(now);
        for due in due {
            under_way.push(Box::pin(limited(due, probe(due))));
        }
        let wake_at = [tick, next].into_iter().flatten().min().unwrap_or(now + MAX_SLEEP);
        let sleep =
            tokio::time::sleep(wake_at.saturating_duration_since(now).clamp(Duration::from_millis(1), MAX_SLEEP));
        let mut sleep = std::pin::pin!(sleep);
        let ended = poll_fn(|cx| {
            let mut ended = Vec::new();
            under_way.retain_mut(|probe| match probe.as_mut().poll(cx) {
                Poll::Ready(result) => {
                    ended.push(result);
                    false
                }
                Poll::Pending => true,
            });
            let is_time = sleep.as_mut().poll(cx).is_ready();
            if is_time || !ended.is_empty() { Poll::Ready(ended) } else { Poll::Pending }
        });
        for (probe, result) in ended.await {
            balancer.probed(probe, result, self::now());
        }
    }
}

/// When backends are asked for their load, and for how long an answer is awaited.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct LoadProbeConfig {
    /// Each backend is asked once in this time. Default 250 ms, at least 1 ms whatever it says. A report counts for a
    /// second, so longer than that leaves backends to what this balancer sees of them. Shorter: closer to the truth, and
    /// each balancer costs each backend more.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub interval: Duration,
    /// How long an answer is awaited. Default 100 ms. One that comes later is of another time.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub timeout: Duration,
    /// Probes under way at once. Default 64, at least 1 whatever it says; those beyond wait for their turn.
    pub max_concurrent: usize,
}

impl Default for LoadProbeConfig {
    fn default() -> Self {
        Self { interval: Duration::from_millis(250), timeout: Duration::from_millis(100), max_concurrent: 64 }
    }
}

/// Asks each backend for its load again and again, and notes what it says for [`Policy::Prequal`](crate::Policy); for
/// ever.
///
/// `ask` gives what the backend answered, or `None` if it did not. Backends are asked one after the other, evenly over the
/// interval. That a backend does not answer says nothing of its health, which is for requests and for
/// [`drive_probes`] to find. Where answers carry the load of their backend, in a header for instance, tell
/// [`Balancer::report_load`] of that instead: it is newer and costs nothing.
///
/// # Cancel safety
/// Dropping it stops the probes under way.
///
/// # Examples
/// ```no_run
/// # async fn host() -> Result<(), Box<dyn std::error::Error>> {
/// use tenfold_load_balancer::{Balancer, LoadProbeConfig, LoadReport, Policy, Probe, drive_load_probes};
///
/// async fn ask(probe: Probe) -> Option<LoadReport> {
///     // Your own question to `probe.address`.
/// #   let _ = probe;
///     Some(LoadReport { in_flight: 3, latency: std::time::Duration::from_millis(7) })
/// }
/// let balancer: Balancer = Balancer::builder().policy(Policy::Prequal).build()?;
/// tokio::spawn(drive_load_probes(balancer.clone(), LoadProbeConfig::default(), ask));
/// # Ok(())
/// # }
/// ```
pub async fn drive_load_probes<T, F, R>(balancer: Balancer<T>, config: LoadProbeConfig, ask: F)
where
    F: Fn(Probe) -> R,
    R: Future<Output = Option<LoadReport>>,
{
    let mut under_way: Vec<Pin<Box<_>>> = Vec::new();
    let mut turns = Vec::new();
    let (mut next, mut gap) = (now(), config.interval);
    loop {
        if turns.is_empty() {
            turns = balancer.backends();
            let count = u32::try_from(turns.len()).unwrap_or(u32::MAX).max(1);
            gap = config.interval.max(Duration::from_millis(1)) / count;
        }
        if now() >= next && under_way.len() < config.max_concurrent.max(1) {
            if let Some(BackendStats { id, address, .. }) = turns.pop() {
                let probe = Probe { id, address, timeout: config.timeout, began: Time::default() };
                under_way.push(Box::pin(limited_load(probe, ask(probe))));
            }
            next = now() + gap;
        }
        let mut sleep = std::pin::pin!(tokio::time::sleep_until(next.into()));
        let ended = poll_fn(|cx| {
            let mut ended = Vec::new();
            under_way.retain_mut(|probe| match probe.as_mut().poll(cx) {
                Poll::Ready(result) => {
                    ended.push(result);
                    false
                }
                Poll::Pending => true,
            });
            let has_room = under_way.len() < config.max_concurrent.max(1);
            let is_time = has_room && sleep.as_mut().poll(cx).is_ready();
            if is_time || !ended.is_empty() { Poll::Ready(ended) } else { Poll::Pending }
        });
        for (id, report) in ended.await {
            if let Some(report) = report {
                balancer.report_load(id, report, now());
            }
        }
    }
}

async fn limited_load(
    probe: Probe,
    asked: impl Future<Output = Option<LoadReport>>,
) -> (BackendId, Option<LoadReport>) {
    (probe.id, tokio::time::timeout(probe.timeout, asked).await.ok().flatten())
}

/// A probe within its time-out.
async fn limited(probe: Probe, sent: impl Future<Output: Into<ProbeResult>>) -> (Probe, ProbeResult) {
    let result = tokio::time::timeout(probe.timeout, sent).await;
    (probe, result.map_or(ProbeResult::Bad, Into::into))
}

/// As tokio's timers see it, so that a test may stop it.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Is well who takes a connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpProbe;

impl TcpProbe {
    /// Opens a connection and closes it.
    pub async fn send(self, probe: Probe) -> ProbeResult {
        let connected = TcpStream::connect(probe.address).await;
        connected.map_or_else(|error| ProbeResult::of_connect_error(&error), |_| ProbeResult::Good)
    }
}

/// Is well who answers a GET over HTTP/1.1 with a status from 200 to 399.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpProbe {
    path: String,
    host: Option<String>,
}

/// A path or host name that cannot stand in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("only visible ASCII characters can stand in the {part} of a request, and a path begins with a slash")]
#[non_exhaustive]
pub struct HttpProbeError {
    part: &'static str,
}

/// The longest status line that is read. An answer that has not ended its first line by then is garbage.
const MAX_STATUS_LINE_BYTES: usize = 256;

impl HttpProbe {
    /// Asks for this path, with the backend's address as host.
    ///
    /// # Errors
    /// [`HttpProbeError`], if it does not begin with a slash or has other than visible ASCII characters.
    pub fn new(path: &str) -> Result<Self, HttpProbeError> {
        if !path.starts_with('/') || !is_visible(path) {
            return Err(HttpProbeError { part: "path" });
        }
        Ok(Self { path: path.to_owned(), host: None })
    }

    /// Asks for this host.
    ///
    /// # Errors
    /// [`HttpProbeError`], if it is empty or has other than visible ASCII characters.
    pub fn with_host(self, host: &str) -> Result<Self, HttpProbeError> {
        if host.is_empty() || !is_visible(host) {
            return Err(HttpProbeError { part: "host" });
        }
        Ok(Self { host: Some(host.to_owned()), ..self })
    }

    /// Asks, and reads the first line of the answer.
    pub async fn send(self, probe: Probe) -> ProbeResult {
        match TcpStream::connect(probe.address).await {
            Ok(stream) => self.status(probe, stream).await.is_ok_and(|status| matches!(status, Some(200..=399))).into(),
            Err(error) => ProbeResult::of_connect_error(&error),
        }
    }

    async fn status(&self, probe: Probe, mut stream: TcpStream) -> io::Result<Option<u16>> {
        let host = self.host.clone().unwrap_or_else(|| probe.address.to_string());
        let path = &self.path;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\naccept: */*\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut head = [0; MAX_STATUS_LINE_BYTES];
        let mut len = 0;
        while len < head.len() && !head[..len].contains(&b'\n') {
            match stream.read(&mut head[len..]).await? {
                0 => break,
                more => len += more,
            }
        }
        Ok(parse_status(&head[..len]))
    }
}

impl fmt::Debug for HttpProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpProbe").field("path", &self.path).field("host", &self.host).finish()
    }
}

fn is_visible(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}
