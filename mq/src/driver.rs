//! What a queue needs done when nobody happens to wait: on a thread or task that the host gives.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::QueueError;
use crate::shared::Shared;

/// After how long what failed is tried again.
const RETRY: Duration = Duration::from_millis(100);

/// Does what is due, and sleeps in between: leases and delays, syncs of [`Durability::Interval`], writing acks and
/// messages that nobody waits for, giving back segments. Whoever submits many messages and waits later has them written
/// meanwhile.
///
/// One is enough; more do no harm. It wakes up when something is due, and every 0.1 s. It ends when the queue is closed.
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
    /// If the log failed for good. What only one call met, such as too many open files, is tried again: senders are told of
    /// it.
    pub fn run(&self) -> Result<(), QueueError> {
        while let Some(wait) = self.tick()? {
            self.shared.sleep_as_keeper(wait)?;
        }
        Ok(())
    }

    /// After how long to look again; `None` once the queue is closed.
    fn tick(&self) -> Result<Option<Duration>, QueueError> {
        match self.shared.tick() {
            Ok(wait) => Ok(Some(wait)),
            Err(QueueError::Closed) => Ok(None),
            Err(_) if self.shared.check_log().is_ok() => Ok(Some(RETRY)),
            Err(error) => Err(error),
        }
    }

    /// The same as a future, which sleeps by tokio's timer: what comes due sooner than it knew when it went to sleep may be
    /// up to 0.1 s late. The work between two sleeps blocks: writes, syncs. Give it a
    /// runtime of more than one thread, or use [`Driver::run`] in `spawn_blocking`.
    ///
    /// # Errors
    /// As of [`Driver::run`].
    ///
    /// # Cancel safety
    /// Dropping it stops the driving and loses nothing.
    #[cfg(feature = "tokio")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tokio")))]
    pub async fn drive(self) -> Result<(), QueueError> {
        while let Some(wait) = self.tick()? {
            self.shared.sleep_as_task(wait).await?;
        }
        Ok(())
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::thread;
    use std::time::{Duration, Instant};

    use super::Driver;
    use crate::standby::PILE_BYTES;
    use crate::storage::Memory;
    use crate::{Queue, Ticket};

    /// Nobody waits for it, and so nobody but a driver writes it.
    fn pile_up(queue: &Queue) -> Ticket {
        let (producer, body) = (queue.producer(), vec![7; 1024]);
        let submit = || producer.submit(body.clone()).expect("there is room");
        (0..PILE_BYTES / 1024).fold(submit(), |_, _| submit())
    }

    fn is_confirmed_in_time(ticket: &Ticket) -> bool {
        let started = Instant::now();
        while !ticket.is_confirmed() && started.elapsed() < Duration::from_secs(30) {
            thread::yield_now();
        }
        ticket.is_confirmed()
    }

    fn sleep_long(driver: &Driver) {
        driver.shared.sleep_as_keeper(Duration::from_secs(3600)).expect("the queue did not fail");
    }

    #[test]
    fn what_piles_up_is_written_by_a_driver_that_sleeps() {
        let queue = Queue::builder().open_storage(Memory::new()).expect("a new queue");
        let driver = queue.driver();
        thread::scope(|scope| {
            // Before it sleeps, and while it does.
            let first = pile_up(&queue);
            scope.spawn(|| sleep_long(&driver));
            assert!(is_confirmed_in_time(&first), "it was there before");
            assert!(is_confirmed_in_time(&pile_up(&queue)), "it came later");
            queue.close().expect("the queue did not fail");
        });
    }

    #[cfg(feature = "tokio")]
    #[test]
    fn what_piles_up_is_written_by_a_driver_that_sleeps_as_a_task() {
        let queue = Queue::builder().open_storage(Memory::new()).expect("a new queue");
        let driver = queue.driver();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build();
        let runtime = runtime.expect("a runtime");
        let first = pile_up(&queue);
        let task = runtime.spawn(async move { driver.shared.sleep_as_task(Duration::from_secs(3600)).await });
        assert!(is_confirmed_in_time(&first), "it was there before");
        assert!(is_confirmed_in_time(&pile_up(&queue)), "it came later");
        task.abort();
        queue.close().expect("the queue did not fail");
    }
}
