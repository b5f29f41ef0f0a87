//! Keeps health up to date where requests alone do not: probes for backends that get none, and time that passes for
//! those that are out.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tenfold_load_balancer::Balancer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::clock;
use crate::traffic::Traffic;

/// How soon a change of the pool is noticed; all that is due later is waited for in steps of this.
const STEP: Duration = Duration::from_millis(50);
/// "HTTP/1.1 200", of which the version is not looked at.
const STATUS_LINE_BYTES: usize = 12;

/// Probes with `GET path`, or not at all without a path, until it is dropped.
pub(crate) async fn run(balancer: Balancer<Traffic>, path: Option<String>, timeout: Duration) {
    let path: Rc<str> = path.unwrap_or_default().into();
    loop {
        let now = clock::now();
        let next_tick = balancer.tick(now);
        let (probes, next_probe) = balancer.due_probes(now);
        for probe in probes {
            let (balancer, path) = (balancer.clone(), Rc::clone(&path));
            tokio::task::spawn_local(async move {
                let is_good = matches!(tokio::time::timeout(timeout, ask(probe.address, &path)).await, Ok(Ok(true)));
                balancer.probed(probe, is_good, clock::now());
            });
        }
        let next: Instant = [next_tick, next_probe].into_iter().flatten().fold(now + STEP, Instant::min);
        tokio::time::sleep_until(next.into()).await;
    }
}

/// Whether a backend answers with a status from 200 to 399. On a connection of its own: that it accepts one is part of
/// the question.
async fn ask(address: SocketAddr, path: &str) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut line = [0; STATUS_LINE_BYTES];
    stream.read_exact(&mut line).await?;
    Ok(line.starts_with(b"HTTP/1.") && matches!(line[8..10], [b' ', b'2' | b'3']))
}
