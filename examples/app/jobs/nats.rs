//! The queue on a NATS server with JetStream: the server as a process of the rung, and the way to it.
//!
//! The process of the role becomes the server (`exec`), so that it is the server that a `kill -9` of the node kills.

use std::fmt;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tenfold_mq::Broker;
use tenfold_rig::{Role, RoleResult};

use super::queue::QueueError;

/// Names another program than the first `nats-server` of the search path.
const PROGRAM_VARIABLE: &str = "TENFOLD_NATS_SERVER";
/// From this version on a server can be told to sync before it confirms.
const SYNCS_FROM: [u32; 2] = [2, 10];

/// An installed NATS server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatsServer {
    program: PathBuf,
    version: String,
}

/// Why there is no NATS server to use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NoNatsServer {
    /// The program was built without the client.
    #[error("this build knows no NATS server: it lacks the feature `nats`")]
    NotBuilt,
    /// There is no such program, or it does not start.
    #[error(
        "--engines nats needs nats-server on the search path, or its path in {}; {program:?}: {source}",
        PROGRAM_VARIABLE
    )]
    Missing {
        /// What was looked for.
        program: PathBuf,
        /// Why it does not start.
        source: std::io::Error,
    },
}

impl NatsServer {
    /// The one that is installed here.
    ///
    /// # Errors
    ///
    /// [`NoNatsServer`].
    pub fn find() -> Result<Self, NoNatsServer> {
        let program = std::env::var_os(PROGRAM_VARIABLE).unwrap_or_else(|| "nats-server".into());
        let program = PathBuf::from(program);
        match Command::new(&program).arg("--version").output() {
            Ok(output) => Ok(Self { version: version(&String::from_utf8_lossy(&output.stdout)), program }),
            Err(source) => Err(NoNatsServer::Missing { program, source }),
        }
    }

    /// Whether it can sync before it confirms.
    pub fn syncs(&self) -> bool {
        let mut numbers = self.version.split('.').map(|number| number.parse().unwrap_or(0));
        [numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)] >= SYNCS_FROM
    }

    /// What its process is told.
    pub fn config(&self, dir: PathBuf, is_durable: bool) -> ServerConfig {
        ServerConfig { program: self.program.clone(), dir, is_durable, syncs: self.syncs() }
    }
}

impl fmt::Display for NatsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nats-server {}", self.version)
    }
}

/// `nats-server: v2.9.10` is 2.9.10.
fn version(text: &str) -> String {
    let word = text.split_whitespace().last().unwrap_or_default();
    word.trim_start_matches('v').to_owned()
}

/// The server's process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerConfig {
    program: PathBuf,
    dir: PathBuf,
    is_durable: bool,
    syncs: bool,
}

/// The whole role: becomes the server, at the role's address.
///
/// # Errors
///
/// The server cannot be started.
pub async fn serve(mut role: Role<ServerConfig>) -> RoleResult {
    let ServerConfig { program, dir, is_durable, syncs } = role.config.clone();
    if !is_durable && dir.exists() {
        std::fs::remove_dir_all(&dir)?;
    }
    std::fs::create_dir_all(&dir)?;
    let file = dir.join("server.conf");
    std::fs::write(&file, settings(role.addr(), &dir.join("store"), syncs))?;
    // The port is the server's from here on; whoever comes too early is refused and tries again.
    drop(role.ready()?);
    Err(Command::new(program).arg("-c").arg(file).exec().into())
}

fn settings(addr: SocketAddr, store: &std::path::Path, syncs: bool) -> String {
    let sync = if syncs { "sync_interval: always" } else { "" };
    let (host, port) = (addr.ip(), addr.port());
    format!("host: \"{host}\"\nport: {port}\njetstream {{\n store_dir: {store:?}\n max_file: 1G\n {sync}\n}}\n")
}

/// A queue on a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatsQueue {
    /// Where the server is.
    pub server: SocketAddr,
    /// Whether it syncs before it confirms.
    pub syncs: bool,
    /// How long a worker has for a job, in milliseconds.
    pub lease_ms: u64,
    /// Jobs that may wait.
    pub max_jobs: u64,
}

/// The way to a queue, which is made if it is not there. Waits for a server that is starting.
#[cfg(feature = "nats")]
pub(super) async fn connect(queue: &NatsQueue) -> Result<Arc<dyn Broker>, QueueError> {
    client::connect(queue).await
}

/// There is none in this build.
#[cfg(not(feature = "nats"))]
pub(super) async fn connect(_: &NatsQueue) -> Result<Arc<dyn Broker>, QueueError> {
    Err(QueueError::Failed(NoNatsServer::NotBuilt.to_string()))
}

#[cfg(feature = "nats")]
mod client {
    use std::sync::Arc;
    use std::time::Duration;

    use tenfold_mq::{Broker, Config, Durability, Nats, NatsConfig, NatsError};
    use tenfold_rig::{now, sleep};

    use super::super::broker::MAX_ATTEMPTS;
    use super::{NatsQueue, QueueError};

    /// How long a server may take until it answers.
    const PATIENCE: Duration = Duration::from_secs(10);
    const PAUSE: Duration = Duration::from_millis(20);
    /// A send whose confirmation was lost with the server is told as failed after so long.
    const TIMEOUT: Duration = Duration::from_secs(2);

    pub(super) async fn connect(queue: &NatsQueue) -> Result<Arc<dyn Broker>, QueueError> {
        let config = config(queue);
        let start = now();
        loop {
            match Nats::connect(config.clone()).await {
                Ok(nats) => return Ok(Arc::new(nats)),
                Err(NatsError::Connection(_)) if now() - start < PATIENCE => sleep(PAUSE).await,
                Err(error) => return Err(QueueError::Failed(error.to_string())),
            }
        }
    }

    fn config(queue: &NatsQueue) -> NatsConfig {
        NatsConfig {
            servers: format!("nats://{}", queue.server),
            name: "jobs".to_owned(),
            request_timeout: TIMEOUT,
            queue: Config {
                durability: if queue.syncs { Durability::Always } else { Durability::Os },
                lease: Duration::from_millis(queue.lease_ms),
                max_attempts: MAX_ATTEMPTS,
                max_messages: queue.max_jobs,
                max_bytes: 256 << 20,
                send_timeout: Duration::ZERO,
                ..Config::default()
            },
            ..NatsConfig::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(text: &str) -> NatsServer {
        NatsServer { program: "nats-server".into(), version: version(text) }
    }

    #[test]
    fn a_version_says_whether_the_server_syncs() {
        assert_eq!(server("nats-server: v2.9.10\n").to_string(), "nats-server 2.9.10");
        assert!(!server("nats-server: v2.9.10").syncs());
        assert!(server("nats-server: v2.10.0-beta").syncs() && server("nats-server: v3.0.1").syncs());
        assert!(!server("something else").syncs());
    }

    #[test]
    fn settings_are_the_nodes_own() {
        let addr = "127.0.0.3:4711".parse().unwrap();
        let text = settings(addr, std::path::Path::new("/store/a b"), true);
        for line in ["host: \"127.0.0.3\"", "port: 4711", "store_dir: \"/store/a b\"", "sync_interval: always"] {
            assert!(text.contains(line), "{text}");
        }
        assert!(!settings(addr, std::path::Path::new("/store"), false).contains("sync_interval"));
    }
}
