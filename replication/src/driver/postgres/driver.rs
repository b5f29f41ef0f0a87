//! The driver: nodes by their connection strings.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{NoTls, Socket};

use super::connection::PgConnection;
use super::control::Control;
use super::dial::{self, By, Dial};
use super::semi::Semi;
use super::{PgConfig, PgError, Server};
use crate::driver::{Access, Ballot, Class, Connected, Driver, Mark, Observation, Promotion, Rejoined};
use crate::{Lsn, Mode, Node, NodeId, Position};

/// Connects a [`Cluster`](crate::Cluster) to PostgreSQL servers; a node's address is its connection string, as libpq or
/// a URL would have it. Cheap to clone; clones share their control connections.
#[derive(Clone)]
pub struct PgDriver {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) config: PgConfig,
    dial: Box<dyn Dial>,
    pub(super) server: Option<Arc<dyn Server>>,
    /// By address; one that is in use is not here.
    controls: Mutex<HashMap<Box<str>, Control>>,
    /// Writes that no standby confirmed in time.
    unconfirmed: Arc<AtomicU64>,
}

impl PgDriver {
    /// A driver whose connections are not encrypted.
    #[must_use]
    pub fn new(config: PgConfig) -> Self {
        Self::with_tls(config, NoTls)
    }

    /// A driver that connects by this connector, as crates for TLS make them for `tokio-postgres`. Whether it must encrypt
    /// is said by `sslmode` in the addresses.
    #[must_use]
    pub fn with_tls<T>(config: PgConfig, tls: T) -> Self
    where
        T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
        T::Stream: Send + 'static,
        T::TlsConnect: Send,
        <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
    {
        let (controls, unconfirmed) = (Mutex::default(), Arc::default());
        let shared = Shared { config, dial: Box::new(By(tls)), server: None, controls, unconfirmed };
        Self { shared: Arc::new(shared) }
    }

    /// Says who can rewind and restart servers, which takes somebody on their machines. Without, a former primary that has
    /// parted from the log cannot rejoin.
    ///
    /// # Panics
    /// If the driver was cloned before.
    #[must_use]
    pub fn with_server(mut self, server: impl Server) -> Self {
        let shared = Arc::get_mut(&mut self.shared).expect("the driver is not cloned yet");
        shared.server = Some(Arc::new(server));
        self
    }

    /// In semi-synchronous mode, writes through this driver that were acknowledged though no standby had confirmed them in
    /// time: what a failover may have lost at most. Each loss is told to its session besides.
    #[must_use]
    pub fn unconfirmed(&self) -> u64 {
        self.shared.unconfirmed.load(Ordering::Relaxed)
    }

    /// A control connection that was used before and is well, or a new one. Whoever has used it keeps it by
    /// [`PgDriver::keep`], unless something went wrong.
    pub(super) async fn control(&self, node: &Node) -> Result<Control, PgError> {
        let kept = self.shared.controls.lock().remove(node.address());
        if let Some(mut control) = kept {
            if control.is_open() {
                return Ok(control);
            }
        }
        let config = self.control_config(node)?;
        Control::open(&*self.shared.dial, &config, self.shared.config.step_timeout).await
    }

    pub(super) fn keep(&self, node: &Node, control: Control) {
        self.shared.controls.lock().insert(node.address().into(), control);
    }

    pub(super) fn control_config(&self, node: &Node) -> Result<tokio_postgres::Config, PgError> {
        dial::acting_as(dial::address(node)?, &self.shared.config.control)
    }

    /// How a replica finds this primary, and what its connection is called there.
    pub(super) fn replication_string(&self, primary: &Node, replica: NodeId) -> Result<String, PgError> {
        let config = self.control_config(primary)?;
        let more = format!("{} application_name={replica}", self.shared.config.replication);
        Ok(dial::connection_string(&config, more.trim_start()))
    }
}

impl Driver for PgDriver {
    type Connection = PgConnection;
    type Error = PgError;

    async fn connect(&self, node: &Node, access: Access) -> Result<Connected<PgConnection>, PgError> {
        let mut config = dial::address(node)?;
        match (access, self.shared.config.synchronous_commit) {
            (Access::Read, _) => dial::with_setting(&mut config, "default_transaction_read_only", "on"),
            (Access::Write, Some(level)) => dial::with_setting(&mut config, "synchronous_commit", level.setting()),
            (Access::Write, None) => {}
        }
        let max_statements = self.shared.config.max_statements;
        let (connection, place) = PgConnection::open(&*self.shared.dial, &config, access, max_statements).await?;
        let connection = connection.counting(&self.shared.unconfirmed);
        let cluster = connection.cluster();
        Ok(Connected { connection, cluster, role: place.role, epoch: place.epoch })
    }

    fn is_open(&self, connection: &PgConnection) -> bool {
        connection.is_open()
    }

    async fn begin(&self, connection: &mut PgConnection, access: Access) -> Result<(), PgError> {
        connection.begin(access).await
    }

    async fn commit(&self, connection: &mut PgConnection) -> Result<(), PgError> {
        connection.commit().await
    }

    async fn roll_back(&self, connection: &mut PgConnection) -> Result<(), PgError> {
        connection.roll_back().await
    }

    fn take_mark(&self, connection: &mut PgConnection) -> Mark {
        connection.take_mark()
    }

    fn skip_mark(&self, connection: &mut PgConnection, floor: Option<Position>) {
        connection.skip_mark(floor);
    }

    async fn wait(&self, connection: &mut PgConnection, lsn: Lsn, timeout: Duration) -> Result<Lsn, PgError> {
        connection.wait(lsn, timeout).await
    }

    fn classify(&self, error: &PgError) -> Class {
        error.class()
    }

    async fn observe(&self, node: &Node) -> Result<Observation, PgError> {
        let mut control = self.control(node).await?;
        let observation = control.observe().await?;
        self.keep(node, control);
        Ok(observation)
    }

    async fn fence(&self, node: &Node, ballot: Ballot) -> Result<Observation, PgError> {
        let mut control = self.control(node).await?;
        let observation = control.fence(ballot).await?;
        self.keep(node, control);
        Ok(observation)
    }

    async fn promote(&self, node: &Node, promotion: &Promotion) -> Result<Observation, PgError> {
        let (standbys, semi) = (standbys(promotion), Semi::setting(promotion));
        let mut control = self.control(node).await?;
        let observation = control.promote(promotion.ballot, &standbys, &semi).await?;
        self.keep(node, control);
        Ok(observation)
    }

    async fn follow(&self, node: &Node, primary: &Node, ballot: Ballot) -> Result<(), PgError> {
        self.make_follow(node, primary, ballot).await
    }

    async fn rejoin(&self, node: &Node, primary: &Node, ballot: Ballot) -> Result<Rejoined, PgError> {
        self.make_rejoin(node, primary, ballot).await
    }
}

/// Who confirms writes of a promoted node, as `synchronous_standby_names` has it.
fn standbys(promotion: &Promotion) -> String {
    let confirming = match promotion.mode {
        // Who writes waits after the commit: a server would wait for ever.
        Mode::Asynchronous | Mode::SemiSynchronous { .. } => return String::new(),
        Mode::Quorum { replicas } => replicas.get(),
    };
    let names: Vec<_> = promotion.replicas.iter().map(|node| format!("\"{node}\"")).collect();
    format!("ANY {confirming} ({})", names.join(", "))
}

impl fmt::Debug for PgDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgDriver").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Epoch;

    #[test]
    fn a_mode_says_who_confirms() {
        let ballot = Ballot { epoch: Epoch(1), coordinator: 1 };
        let promotion = |mode| Promotion { ballot, mode, replicas: vec![NodeId(0), NodeId(2)] };
        assert_eq!(standbys(&promotion(Mode::Asynchronous)), "");
        assert_eq!(standbys(&promotion(Mode::quorum(2))), r#"ANY 2 ("n0", "n2")"#);
        let semi = Mode::SemiSynchronous { timeout: Duration::from_millis(1) };
        assert_eq!(standbys(&promotion(semi)), "");
    }
}
