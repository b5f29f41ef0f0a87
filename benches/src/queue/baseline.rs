//! What the machine allows: no queues.
//!
//! `bare-write` is one thread's write and fdatasync, as one system call, over a file that was written before: a file that grows
//! takes twice as long. `bare-committer` is group commit without anything around it: no copy, no checksum, no log; producers
//! only say that they have something and wait, one write as long as all that waits is synced, and each waiter is woken by
//! itself. `crossbeam` is a bounded channel in memory, the only one here that may be called a peer.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Poll, Wake, Waker};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use rustix::io::ReadWriteFlags;

use super::load::{Lap, Load, WINDOW};
use super::{Candidate, Origin, Outcome, Policy, Queue, Sender, Setting, Taker, Trouble, drive};

/// The file is written over from its beginning once it ends here.
const FILE_BYTES: u64 = 64 << 20;

/// The longest write.
const WRITE_BYTES: usize = 1 << 20;

/// Messages that the channel holds.
pub const CHANNEL: usize = 1 << 16;

/// All of them.
pub const CANDIDATES: &[Candidate] = &[
    candidate("bare-write", Policy::Always, Origin::Baseline, |setting| Ok(Box::new(BareWrite::open(setting)?))),
    candidate("bare-committer", Policy::Always, Origin::Baseline, |setting| Ok(Box::new(Committer::open(setting)?))),
    candidate("crossbeam", Policy::None, Origin::Peer, |_| Ok(Box::new(Channel::new()))),
];

const fn candidate(
    name: &'static str,
    sync: Policy,
    origin: Origin,
    open: fn(&Setting<'_>) -> Result<Box<dyn Queue>, Trouble>,
) -> Candidate {
    Candidate { name, sync, origin, is_server: false, only_in: None, open }
}

/// A file written out in full, to be written over.
struct Recycled {
    file: File,
    at: u64,
}

impl Recycled {
    fn create(folder: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create_new(true).write(true).open(folder.join("bare"))?;
        let zeros = vec![0; WRITE_BYTES];
        for at in (0..FILE_BYTES).step_by(WRITE_BYTES) {
            file.write_all_at(&zeros, at)?;
        }
        file.sync_all()?;
        Ok(Self { file, at: 0 })
    }

    /// Writes behind what was written last, and returns once it is on the disk.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.at + bytes.len() as u64 > FILE_BYTES {
            self.at = 0;
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let flags = ReadWriteFlags::DSYNC;
            let written = rustix::io::pwritev2(&self.file, &[IoSlice::new(rest)], self.at, flags)?;
            self.at += written as u64;
            rest = &rest[written..];
        }
        Ok(())
    }
}

struct BareWrite(Mutex<Recycled>);

impl BareWrite {
    fn open(setting: &Setting<'_>) -> io::Result<Self> {
        Ok(Self(Mutex::new(Recycled::create(setting.folder)?)))
    }
}

impl Queue for BareWrite {
    fn sender(&self) -> Option<Box<dyn Sender + '_>> {
        Some(Box::new(&self.0))
    }
}

impl Sender for &Mutex<Recycled> {
    fn send(&mut self, body: &Bytes) -> Outcome {
        Ok(self.lock().append(body)?)
    }

    fn send_batch(&mut self, bodies: &[Bytes]) -> Result<bool, Trouble> {
        self.lock().append(&bodies.concat())?;
        Ok(true)
    }
}

/// A thread that commits, and those who wait for it.
struct Committer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    committed: AtomicU64,
}

#[derive(Default)]
struct Waiting {
    /// Messages ever.
    appended: u64,
    /// By the number that each waits for.
    wakers: VecDeque<(u64, Waker)>,
    is_closed: bool,
}

impl Committer {
    fn open(setting: &Setting<'_>) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (file, size) = (Recycled::create(setting.folder)?, setting.size);
        let of_thread = Arc::clone(&shared);
        let thread = thread::spawn(move || of_thread.commit_all(file, size));
        Ok(Self { shared, thread: Some(thread) })
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.shared.waiting.lock().is_closed = true;
        self.shared.arrived.notify_one();
        if let Some(thread) = self.thread.take() {
            // It has ended because it failed, and then its waiters never came back: not here.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn commit_all(&self, mut file: Recycled, size: usize) -> io::Result<()> {
        let bytes = vec![0xab; WRITE_BYTES];
        let (mut committed, mut woken) = (0, Vec::new());
        loop {
            let mut waiting = self.waiting.lock();
            while waiting.appended == committed {
                if waiting.is_closed {
                    return Ok(());
                }
                self.arrived.wait(&mut waiting);
            }
            let upto = waiting.appended;
            drop(waiting);
            let mut left = (upto - committed) as usize * size;
            while left > 0 {
                let piece = left.min(WRITE_BYTES);
                file.append(&bytes[..piece])?;
                left -= piece;
            }
            committed = upto;
            self.confirm(upto, &mut woken);
        }
    }

    /// Everything up to this number is on the disk.
    fn confirm(&self, upto: u64, woken: &mut Vec<Waker>) {
        let mut waiting = self.waiting.lock();
        self.committed.store(upto, Ordering::Release);
        while waiting.wakers.front().is_some_and(|(number, _)| *number <= upto) {
            woken.extend(waiting.wakers.pop_front().map(|(_, waker)| waker));
        }
        drop(waiting);
        woken.drain(..).for_each(Waker::wake);
    }

    /// Appends, and gives the number to wait for.
    fn append(&self, count: u64, waker: Option<Waker>) -> u64 {
        let mut waiting = self.waiting.lock();
        let is_first = waiting.appended == self.committed.load(Ordering::Relaxed);
        waiting.appended += count;
        let number = waiting.appended;
        waiting.wakers.extend(waker.map(|waker| (number, waker)));
        drop(waiting);
        if is_first {
            self.arrived.notify_one();
        }
        number
    }

    fn is_committed(&self, number: u64) -> bool {
        self.committed.load(Ordering::Acquire) >= number
    }

    /// Has it woken once this number is committed, unless it is already.
    fn wake_at(&self, number: u64, waker: &Waker) {
        let mut waiting = self.waiting.lock();
        if !self.is_committed(number) {
            waiting.wakers.push_back((number, waker.clone()));
        }
    }

    /// Parks until so much is committed. The waker has to be that of this thread, and has to have been given already.
    fn park_until(&self, number: u64) {
        while !self.is_committed(number) {
            thread::park();
        }
    }
}

/// Wakes a thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn waker_of_this_thread() -> Waker {
    Arc::new(Unpark(thread::current())).into()
}

impl Queue for Committer {
    fn sender(&self) -> Option<Box<dyn Sender + '_>> {
        Some(Box::new(Waiter { shared: &self.shared, waker: None }))
    }

    fn window(&self, load: &Load) -> Result<Option<Lap>, Trouble> {
        let waker = waker_of_this_thread();
        let last = std::cell::Cell::new(0_u64);
        let submit = |_: &Bytes| {
            last.set(self.shared.append(1, None));
            let oldest = last.get().saturating_sub(WINDOW as u64);
            if !self.shared.is_committed(oldest) {
                // Woken when the window is half empty, not for each message.
                let half = oldest + WINDOW as u64 / 2;
                self.shared.wake_at(half, &waker);
                self.shared.park_until(half);
            }
            Ok(())
        };
        let settle = || {
            last.set(self.shared.append(1, Some(waker.clone())));
            self.shared.park_until(last.get());
            Ok(())
        };
        drive::window(load, submit, settle).map(Some)
    }

    fn tasks(&self, load: &Load) -> Result<Option<Lap>, Trouble> {
        let runtime = drive::runtime()?;
        let make = || {
            let shared = Arc::clone(&self.shared);
            Ok(move |_| confirm(Arc::clone(&shared)))
        };
        drive::tasks(&runtime, load, make).map(Some)
    }
}

/// One message of a task.
async fn confirm(shared: Arc<Shared>) -> Outcome {
    let mut number = None;
    std::future::poll_fn(|context| {
        let number = *number.get_or_insert_with(|| shared.append(1, Some(context.waker().clone())));
        if shared.is_committed(number) { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
}

struct Waiter<'a> {
    shared: &'a Shared,
    waker: Option<Waker>,
}

impl Waiter<'_> {
    fn commit(&mut self, count: u64) {
        let waker = self.waker.get_or_insert_with(waker_of_this_thread).clone();
        let number = self.shared.append(count, Some(waker));
        self.shared.park_until(number);
    }
}

impl Sender for Waiter<'_> {
    fn send(&mut self, _: &Bytes) -> Outcome {
        self.commit(1);
        Ok(())
    }

    fn send_batch(&mut self, bodies: &[Bytes]) -> Result<bool, Trouble> {
        self.commit(bodies.len() as u64);
        Ok(true)
    }
}

/// A channel: nothing to ack, nothing to lose.
struct Channel {
    sender: crossbeam_channel::Sender<Bytes>,
    receiver: crossbeam_channel::Receiver<Bytes>,
}

impl Channel {
    fn new() -> Self {
        let (sender, receiver) = crossbeam_channel::bounded(CHANNEL);
        Self { sender, receiver }
    }
}

impl Queue for Channel {
    fn sender(&self) -> Option<Box<dyn Sender + '_>> {
        Some(Box::new(&self.sender))
    }

    fn taker(&self) -> Option<Box<dyn Taker + '_>> {
        Some(Box::new(&self.receiver))
    }

    fn held(&self) -> Result<Option<u64>, Trouble> {
        Ok(Some(self.receiver.len() as u64))
    }
}

impl Sender for &crossbeam_channel::Sender<Bytes> {
    fn send(&mut self, body: &Bytes) -> Outcome {
        crossbeam_channel::Sender::send(self, body.clone()).map_err(|_| "the channel is closed".into())
    }

    fn send_batch(&mut self, bodies: &[Bytes]) -> Result<bool, Trouble> {
        bodies.iter().try_for_each(|body| Sender::send(self, body))?;
        Ok(true)
    }
}

impl Taker for &crossbeam_channel::Receiver<Bytes> {
    fn take(&mut self, max: usize, look: &mut dyn FnMut(&[u8])) -> Result<usize, Trouble> {
        let taken = self.try_iter().take(max);
        Ok(taken.map(|body| look(&body)).count())
    }

    fn take_waiting(&mut self, timeout: Duration, look: &mut dyn FnMut(&[u8])) -> Result<usize, Trouble> {
        Ok(self.recv_timeout(timeout).map(|body| look(&body)).into_iter().count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::load::Bodies;
    use crate::queue::scenario::Scenario;

    #[test]
    fn the_committer_confirms_to_threads_tasks_and_windows() {
        let folder = crate::proxy_faults::process::Folder::new("committer").unwrap();
        let setting = Setting { sync: Policy::Always, folder: folder.path(), scenario: Scenario::Produce, size: 100 };
        let queue = Committer::open(&setting).unwrap();
        let load = Load {
            producers: 4,
            window: Duration::from_secs(60),
            warm_up: Duration::ZERO,
            timed_one_of: 1,
            max_messages: 400,
            bodies: Bodies::of(100),
        };
        assert_eq!(drive::threads(&queue, &load).unwrap().unwrap().messages, 400);
        assert_eq!(queue.tasks(&load).unwrap().unwrap().messages, 400);
        let one = Load { producers: 1, max_messages: 5_000, ..load };
        let lap = queue.window(&one).unwrap().unwrap();
        assert!((5_000..5_064).contains(&lap.messages), "{}", lap.messages);
        assert_eq!(queue.shared.waiting.lock().appended, 800 + lap.messages + 2, "settled twice");
    }
}
