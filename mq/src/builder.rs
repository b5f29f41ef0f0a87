//! Opening a queue with what is code: its clock, its storage.

use std::path::Path;
use std::sync::Arc;

use crate::shared::Shared;
use crate::storage::{Directory, Storage};
use crate::{Clock, Config, ConfigError, OpenError, Queue, SystemClock};

/// Joins what a queue is made of.
///
/// # Examples
/// ```
/// use tenfold_mq::{Config, ManualClock, Memory, Queue};
///
/// let clock = ManualClock::new();
/// let queue = Queue::builder().config(Config::default()).clock(clock.clone()).open_storage(Memory::new())?;
/// queue.producer().send("hello")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a builder makes nothing until it is told to open"]
#[derive(Default)]
pub struct Builder {
    config: Config,
    clock: Option<Box<dyn Clock>>,
    must_exist: bool,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// The settings. Default: [`Config::default`].
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Where the time comes from. Default: [`SystemClock`].
    pub fn clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Some(Box::new(clock));
        self
    }

    /// Opens only a queue that is there: where there is none, nothing is made and
    /// [`OpenError::NotFound`] says so. Default: one is begun.
    pub fn must_exist(mut self) -> Self {
        self.must_exist = true;
        self
    }

    /// Opens the queue in this directory; see [`Queue::open`].
    ///
    /// # Errors
    /// As of [`Queue::open`].
    pub fn open(self, directory: impl AsRef<Path>) -> Result<Queue, OpenError> {
        self.config.check()?;
        if self.must_exist && !directory.as_ref().is_dir() {
            return Err(OpenError::NotFound);
        }
        self.open_storage(Directory::open(directory)?)
    }

    /// Opens the queue in this storage; see [`Queue::open`].
    ///
    /// # Errors
    /// As of [`Queue::open`].
    pub fn open_storage(self, storage: impl Storage + 'static) -> Result<Queue, OpenError> {
        self.config.check()?;
        let must_exist = self.must_exist;
        let (config, clock) = self.parts();
        Shared::open(config, clock, Arc::new(storage), must_exist).map(|shared| Queue::new(Arc::new(shared)))
    }

    /// A queue that keeps nothing; see [`Queue::in_memory`].
    ///
    /// # Errors
    /// If a setting is out of its range.
    pub fn in_memory(self) -> Result<Queue, ConfigError> {
        self.config.check()?;
        let (config, clock) = self.parts();
        Ok(Queue::new(Arc::new(Shared::in_memory(config, clock))))
    }

    fn parts(self) -> (Config, Box<dyn Clock>) {
        (self.config, self.clock.unwrap_or_else(|| Box::new(SystemClock::new())))
    }
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder").field("config", &self.config).finish_non_exhaustive()
    }
}
