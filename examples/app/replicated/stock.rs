//! Folders of nodes with the sample users in them: filled once, copied for each system.

use std::io;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};

use futures_util::future::try_join_all;
use tenfold_replication::driver::sqlite::{SqliteDriver, SqliteError, rusqlite};
use tenfold_replication::driver::{Access, Ballot, Driver, Promotion};
use tenfold_replication::{Epoch, Mode, Node, NodeId};
use tenfold_rig::{RoleResult, TempDir};

use super::engine::Engine;
use super::postgres;
use super::wire::mode_of;
use crate::rung::{BALANCE, USERS};
use crate::sqlite::{SCHEMA, fill};

/// A filled primary from which others are copied.
#[derive(Debug)]
pub struct Stock {
    engine: Engine,
    dir: TempDir,
}

impl Stock {
    /// Fills it with all users of the climb.
    ///
    /// # Errors
    ///
    /// What the files say no with.
    pub async fn new(engine: &Engine) -> RoleResult<Self> {
        Self::with(engine, USERS).await
    }

    /// Fills it with so many users.
    ///
    /// # Errors
    ///
    /// What the files say no with.
    pub async fn with(engine: &Engine, users: u64) -> RoleResult<Self> {
        let stock = Self { engine: engine.clone(), dir: TempDir::new()? };
        match engine {
            Engine::Sqlite => create(&stock.filled(), SCHEMA, move |db| fill(db, 1..=users, BALANCE)).await?,
            Engine::Postgres(server) => postgres::stock::fill(server, &stock.filled(), users, BALANCE).await?,
        }
        Ok(stock)
    }

    /// What it is of.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    fn filled(&self) -> PathBuf {
        self.dir.path().join("filled")
    }

    /// Makes a primary in the first of `folders` and replicas in the others, which get its log when they are served; so many
    /// of them confirm a write, none in asynchronous mode.
    ///
    /// # Errors
    ///
    /// What the files say no with.
    pub async fn lay_out(&self, folders: &[PathBuf], quorum: Option<NonZeroU16>) -> RoleResult {
        let filled = self.filled();
        match self.engine {
            Engine::Sqlite => lay_out_sqlite(filled, folders, mode_of(quorum)).await,
            // Their servers are told the rest when they are started.
            Engine::Postgres(_) => {
                let copies = folders.iter().enumerate();
                let copies = copies.map(|(id, folder)| postgres::stock::copy(&filled, folder, id > 0));
                try_join_all(copies).await.map(drop)
            }
        }
    }
}

/// Makes a primary that has no replicas, with these tables and what `fill` puts into them.
pub(crate) async fn create<F>(folder: &Path, schema: &str, fill: F) -> Result<(), SqliteError>
where
    F: FnOnce(&rusqlite::Connection) -> rusqlite::Result<()> + Send + 'static,
{
    let (driver, node) = (SqliteDriver::default(), node(0, folder));
    driver.create(std::slice::from_ref(&node), Mode::Asynchronous).await?;
    let mut connection = driver.connect(&node, Access::Write).await?.connection;
    connection.migrate(schema).await?;
    connection.run(move |db| fill(db).map_err(SqliteError::from)).await
}

/// A primary, and replicas that copy it when they are served.
async fn lay_out_sqlite(filled: PathBuf, folders: &[PathBuf], mode: Mode) -> RoleResult {
    let Some((first, others)) = folders.split_first() else { return Ok(()) };
    let to = first.clone();
    tokio::task::spawn_blocking(move || copy(&filled, &to)).await??;
    let (driver, primary) = (SqliteDriver::default(), node(0, first));
    // Its first reign was that of whoever filled it; this one knows its replicas and when it may acknowledge.
    let ballot = Ballot { epoch: Epoch(2), coordinator: 0 };
    driver.fence(&primary, ballot).await?;
    let replicas = (1..folders.len()).map(|id| NodeId(id as u16)).collect();
    driver.promote(&primary, &Promotion { ballot, mode, replicas }).await?;
    for (index, folder) in others.iter().enumerate() {
        driver.add_replica(&node(index as u16 + 1, folder), &primary).await?;
    }
    Ok(())
}

fn node(id: u16, folder: &Path) -> Node {
    Node::new(NodeId(id), folder.to_string_lossy())
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
