//! PostgreSQL servers as nodes: they replicate by themselves, and this crate says who reads and writes where, and who is
//! primary.
//!
//! ```no_run
//! use std::time::Duration;
//! use tenfold_replication::driver::postgres::{LocalServer, PgConfig, PgDriver};
//! use tenfold_replication::{Cluster, DetectConfig, FailoverConfig, Node, NodeId, Session};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // As `scripts/pg-cluster up --port 25000` starts them; their data may be rewound by this process.
//! let nodes = [25000, 25001, 25002].into_iter().zip(0..).map(|(port, id)| {
//!     Node::new(NodeId(id), format!("host=127.0.0.1 port={port} user=postgres"))
//! });
//! let server = LocalServer::new("/usr/lib/postgresql/15/bin").node(NodeId(0), "/tmp/tenfold-pg-cluster/n0/data");
//! let driver = PgDriver::new(PgConfig::default()).with_server(server);
//! let cluster = Cluster::builder(driver).nodes(nodes).build()?;
//! tokio::spawn(cluster.clone().drive());
//! tokio::spawn(cluster.clone().supervise(DetectConfig::default(), FailoverConfig::default()));
//! cluster.ready(Duration::from_secs(5)).await?;
//!
//! let session = Session::new();
//! let sql = "insert into account(name, cents) values ($1, $2)";
//! cluster.write(&session, |mut c| async move { c.execute(sql, &[&"ada", &100_i64]).await }).await?;
//! // From a replica that has it, or the primary.
//! let sql = "select cents from account where name = $1";
//! let rows = cluster.read(&session, |mut c| async move { c.query(sql, &[&"ada"]).await }).await?;
//! assert_eq!(rows[0].try_get::<_, i64>(0)?, 100);
//! # Ok(())
//! # }
//! ```
//!
//! # What servers need
//!
//! Version 14 or later (tested on 15), streaming replication, `hot_standby`, and `wal_log_hints` or checksums if former
//! primaries are to be rewound. A standby is called `n1` (`application_name`), and its slot on the primary `tenfold_n1`,
//! for node 1; a node that follows for the first time by this driver is told so. `wal_receiver_timeout` is how long a
//! replica believes in a primary that says nothing: one second is right where it is otherwise a minute.
//!
//! Roles that read and write must be members of `pg_monitor`, since each answer comes with how far the server is. The
//! role of [`PgConfig::control`] must be a superuser.
//!
//! A primary that is killed within a large write leaves its standbys with the beginning of a record. One that is to follow
//! another primary from there would wait for the rest, or end its server when it finds that there is none. So the driver has
//! the server of that standby write a page, by `copy ... to program`, which takes `sh`, `cat`, `dd` and `printf` there. Without
//! them it never follows by itself, and an event of the feature `tracing` says why.
//!
//! # Sessions
//!
//! A mark is the timeline and the place in the log, asked for in the flush of the statement. On a replica it is how far that
//! has replayed; while a record is being replayed, whose commit may be seen before it counts, the end of it is waited
//! for. It costs more than a short statement does; an [untracked](crate::ReadOptions::untracked) read goes without on a
//! connection that is known to show enough.
//!
//! What replicas show in the order of the log, a primary shows in the order in which transactions end there: so sessions have
//! read-your-writes and monotonic reads, and not one order of all snapshots over nodes.
//!
//! On a pooled connection, what a session keeps beyond its transaction would be met by the next: `set local` instead of
//! `set`, locks of the transaction instead of those of the session. Prepared statements are the driver's.
//!
//! # Copy and listen
//!
//! Both need a connection of their own, of `tokio-postgres` or another client, made to the address of
//! [`Topology::primary`](crate::Topology::primary). After a `copy` into the primary, an empty
//! [`write`](crate::Cluster::write) of the session, `select 1` for instance, gives its mark: it is beyond all that was
//! committed before. `listen` works on a primary only, and what was notified around a failover is lost: after each
//! [`epoch`](crate::Topology::epoch), listen anew and look at the tables.
//!
//! # Modes
//!
//! A promoted node is set to `ANY k` of all others for [`Mode::Quorum`](crate::Mode::Quorum), and to nobody for
//! [`Mode::Asynchronous`](crate::Mode::Asynchronous); before the first failover the servers are as they were set up.
//! For [`Mode::SemiSynchronous`](crate::Mode::SemiSynchronous), which PostgreSQL does not have, who writes waits after the
//! commit until one of the others has it on its disk, or the time is over: then the write counts as acknowledged all the same,
//! and in [`PgDriver::unconfirmed`]. For how long and for whom is a setting of the server, which a promotion writes and a new
//! connection reads; before the first one it is set on the primary, in milliseconds and names of standbys: `alter system set
//! tenfold.semi_synchronous = '100 n1 n2'`. Others may see a write before a standby has it.
//!
//! A commit whose wait for standbys was cut short, which the
//! server calls done, is [`PgError::Unconfirmed`]; `statement_timeout` does not end that wait,
//! [`Config::write_timeout`](crate::Config::write_timeout) does.
//!
//! # Fences
//!
//! A fenced primary defaults to read only, has nobody to confirm a commit, and has ended all sessions of before; all of
//! that survives a restart. Whoever asks for `begin read write` on it and for `synchronous_commit = local` is not
//! stopped: that takes `pg_hba.conf`, or somebody who switches its machine off. An old primary that cannot be reached is
//! fenced in a quorum alone, by taking away its standbys.
//!
//! # Two timelines of one number
//!
//! A server that is promoted numbers its timeline by itself: one beyond the highest that it has heard of. If a primary is lost
//! before the next one has heard of its timeline, both have the same number. That takes two failovers one after the other, the
//! second of them before any other node has followed the first primary, or two coordinators that promote two nodes at once,
//! where no quorum prevents it. In a quorum the first one has then acknowledged nothing, since whoever confirms a write has heard
//! of its timeline; else all that it has acknowledged is lost.
//!
//! Marks hold the number alone. So sessions are not told of that loss, as they are of all others, and may take for fresh what
//! is not; and a primary of the first kind that comes back, and is fenced for another failover before it has rejoined, may be
//! taken for the furthest. A promotion notes its ballot on the new primary, and on each node that follows or rejoins: so a node
//! of the other timeline is found out by then, and copied anew from the primary, since `pg_rewind` would find nothing to do.
//! Before it is, reads may be served by one that had followed the first primary. Followers are told at once where somebody runs
//! [`supervise`](crate::Cluster::supervise), so the time for all this is short.
//!
//! # Rejoining
//!
//! A former primary always has records of its own, of its shutdown at least, so that `pg_rewind` must run on its machine:
//! by [`LocalServer`], or by a [`Server`] of the host's, which also copies nodes anew (`pg_basebackup`). The new primary makes a checkpoint before, without which the
//! rewind sees no difference.

mod config;
mod connection;
mod control;
mod dial;
mod driver;
mod error;
mod link;
mod position;
mod probe;
mod rejoin;
mod semi;
mod server;
mod settings;
mod shown;
mod statements;
mod tail;

pub use config::{PgConfig, SynchronousCommit};
pub use connection::PgConnection;
pub use driver::PgDriver;
pub use error::PgError;
pub use server::{LocalServer, Rewind, Rewinding, Server};
/// The client whose rows, parameters and errors these are, in the version that is used here.
pub use tokio_postgres;
