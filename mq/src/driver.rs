//! What a queue needs done when nobody happens to wait: on a thread or task that the host gives.

use std::fmt;
use std::sync::Arc;

use crate::QueueError;
use crate::shared::Shared;

/// Does what is due, and sleeps in between: leases and delays, syncs of [`Durability::Interval`], writing acks and
/// messages that nobody waits for, giving back segments.
///
/// One is enough; more do no harm. It ends when the queue is closed.
///
/// [`Durability::Interval`]: crate::Durability::Interval
///
/// # Examples
/// ```
/// use std::thread;
/// use tenfold_mq::{Config, Queue};
///
/// let queue = Queue::in_memory(Config::default())?;
/// let driver = queue.driver();
/// let thread = thread::spawn(move || driver.run());
/// queue.producer().send("hello")?;
/// queue.close()?;
/// thread.join().expect("the driver does not panic")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Driver {
    shared: Arc<Shared>,
}

impl Driver {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Blocks until the queue is closed.
    ///
    /// # Errors
    /// If the queue failed.
    pub fn run(&self) -> Result<(), QueueError> {
        loop {
            match self.shared.tick() {
                Ok(wait) => self.shared.sleep_as_keeper(wait),
                Err(QueueError::Closed) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// The same as a future, which sleeps by tokio's timer. The work between two sleeps blocks: writes, syncs. Give it a
    /// runtime of more than one thread, or use [`Driver::run`] in `spawn_blocking`.
    ///
    /// # Errors
    /// If the queue failed.
    ///
    /// # Cancel safety
    /// Dropping it stops the driving and loses nothing.
    #[cfg(feature = "tokio")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tokio")))]
    pub async fn drive(self) -> Result<(), QueueError> {
        loop {
            match self.shared.tick() {
                Ok(wait) => tokio::time::sleep(wait.max(std::time::Duration::from_millis(1))).await,
                Err(QueueError::Closed) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}
