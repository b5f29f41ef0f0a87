//! Backends that end with the test.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tenfold_mq::{Broker, Config, Queue, Received};

#[cfg(feature = "nats")]
use super::server::Server;

/// Where the queue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backend {
    Memory,
    Directory,
    #[cfg(feature = "nats")]
    Nats,
}

/// A backend and what it needs.
pub(super) struct Bench {
    backend: Backend,
    folder: Folder,
    #[cfg(feature = "nats")]
    pub(super) server: Option<Server>,
}

pub(super) const GROUP: &str = "default";

/// Long enough for a busy machine; only tests that fail wait for so long.
pub(super) const LONG: Duration = Duration::from_secs(20);

/// A lease or a delay that a test waits for.
pub(super) const SHORT: Duration = Duration::from_millis(400);

impl Bench {
    /// `None` if the backend cannot be had and the environment allows that.
    pub(super) fn new(backend: Backend) -> Option<Self> {
        let folder = Folder::new();
        #[cfg(feature = "nats")]
        let server = match backend {
            Backend::Nats => Some(Server::start(&folder.0)?),
            _ => None,
        };
        Some(Self {
            backend,
            folder,
            #[cfg(feature = "nats")]
            server,
        })
    }

    /// Whether the queue is still there when it is opened again.
    pub(super) fn outlives(&self) -> bool {
        self.backend != Backend::Memory
    }

    /// A queue of that name, with everything that the backend has.
    pub(super) async fn open(&self, name: &str, config: Config) -> Arc<dyn Broker> {
        match self.backend {
            Backend::Memory => Arc::new(Queue::in_memory(config).unwrap()),
            Backend::Directory => Arc::new(Queue::open(self.folder.0.join(name), config).unwrap()),
            #[cfg(feature = "nats")]
            Backend::Nats => {
                let server = self.server.as_ref().unwrap();
                Arc::new(tenfold_mq::Nats::connect(server.config(name, config)).await.unwrap())
            }
        }
    }
}

/// Small: servers set space aside.
pub(super) fn small() -> Config {
    Config {
        segment_bytes: 64 << 10,
        max_message_bytes: 16 << 10,
        memory_bytes: 4 << 20,
        max_bytes: 16 << 20,
        ..Config::default()
    }
}

/// A folder of the test's own, gone when it ends.
pub(super) struct Folder(pub(super) PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tenfold-mq-broker-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Receives until there are so many, or nothing comes for long.
pub(super) async fn receive_all(broker: &dyn Broker, group: &str, count: usize) -> Vec<Received> {
    let mut all = Vec::new();
    while all.len() < count {
        let some = broker.receive(group, count - all.len(), LONG).await.unwrap();
        assert!(!some.is_empty(), "only {} of {count} came", all.len());
        all.extend(some);
    }
    all
}

pub(super) async fn receive_one(broker: &dyn Broker) -> Received {
    receive_all(broker, GROUP, 1).await.remove(0)
}

/// Nothing comes for that long.
pub(super) async fn assert_quiet(broker: &dyn Broker, group: &str, time: Duration) {
    let some = broker.receive(group, 10, time).await.unwrap();
    assert!(some.is_empty(), "{some:?}");
}

pub(super) fn bodies(received: &[Received]) -> Vec<String> {
    received.iter().map(|received| String::from_utf8(received.body().to_vec()).unwrap()).collect()
}
