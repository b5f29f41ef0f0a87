//! Appending, committing and waiting under shuttle, which picks the thread that runs next at every lock and atomic; a
//! wake-up or a lead that is lost is a deadlock. Run with `RUSTFLAGS="--cfg shuttle" cargo test -p tenfold-mq --lib shuttle`.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Wake, Waker};

use super::*;
use crate::storage::{Fault, FaultyDisk};
use crate::sync::thread;

const ITERATIONS: usize = 500;

/// Wakes a thread that polls.
struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.unpark();
    }
}

fn waker() -> Waker {
    std::sync::Arc::new(Unpark(thread::current())).into()
}

/// Runs a future on this thread.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = waker();
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(outcome) => return outcome,
            Poll::Pending => thread::park(),
        }
    }
}

fn open(disk: &FaultyDisk) -> Log {
    let config = LogConfig { segment_bytes: 4096, ..LogConfig::default() };
    let storage: Arc<dyn crate::storage::Storage> = Arc::new(disk.clone());
    Log::open(storage, config, Box::new(|_| {}), &mut |_, _, _, _| true).unwrap().0
}

fn append(log: &Log) -> Result<Lsn, AppendError> {
    log.append(Room::Ordinary, &mut |batch| _ = batch.put(1, &[b"body"])).map(|appended| appended.lsn)
}

/// What somebody who sends does about the confirm.
#[derive(Clone, Copy)]
enum Sender {
    Thread,
    Task,
    /// Asks once and goes away.
    Quitter,
    /// Asks once, keeps its seat and never comes back: what the contract forbids.
    Sleeper,
}

impl Sender {
    fn send(self, log: &Log) -> Result<(), Poisoned> {
        let Ok(lsn) = append(log) else { return log.check() };
        match self {
            Self::Thread => log.wait(lsn)?,
            Self::Task => block_on(log.confirmation(lsn))?,
            Self::Quitter | Self::Sleeper => {
                let mut confirmation = Box::pin(log.confirmation(lsn));
                let polled = confirmation.as_mut().poll(&mut Context::from_waker(&waker()));
                if matches!(self, Self::Sleeper) && polled.is_pending() {
                    std::mem::forget(confirmation);
                }
                return Ok(());
            }
        }
        assert!(log.confirmed() >= lsn, "told before it is confirmed");
        Ok(())
    }
}

/// Each sends twice, at the same time as the others; with a fault, the sync of that number fails.
fn scenario(senders: &'static [Sender], fault: Option<u64>) -> impl Fn() + Clone + Send + Sync + 'static {
    move || {
        let disk = FaultyDisk::new(1);
        let log = open(&disk);
        if let Some(fault) = fault {
            disk.fail_change(disk.changes() + fault, Fault::Error(std::io::ErrorKind::Other));
        }
        let run = |sender: Sender, log: Log| move || (0..2).all(|_| sender.send(&log).is_ok());
        let threads: Vec<_> = senders.iter().map(|&sender| thread::spawn(run(sender, log.clone()))).collect();
        let all_sent = threads.into_iter().map(|thread| thread.join().unwrap()).fold(true, |all, one| all && one);
        if fault.is_none() {
            assert!(all_sent);
            log.commit().unwrap();
            assert_eq!(log.confirmed(), log.durable());
        } else {
            assert_eq!(log.check().is_ok(), log.commit().is_ok());
        }
    }
}

fn check(scenario: impl Fn() + Send + Sync + Clone + 'static) {
    shuttle::check_random(scenario.clone(), ITERATIONS);
    for depth in [2, 3] {
        shuttle::check_pct(scenario.clone(), ITERATIONS / 2, depth);
    }
}

#[test]
fn shuttle_threads_all_learn_of_their_confirm() {
    check(scenario(&[Sender::Thread, Sender::Thread, Sender::Thread], None));
}

#[test]
fn shuttle_tasks_and_threads_all_learn_of_their_confirm() {
    check(scenario(&[Sender::Task, Sender::Task, Sender::Thread], None));
    check(scenario(&[Sender::Task, Sender::Task, Sender::Task], None));
}

#[test]
fn shuttle_a_task_that_goes_away_takes_no_lead_along() {
    check(scenario(&[Sender::Quitter, Sender::Task, Sender::Task], None));
    check(scenario(&[Sender::Quitter, Sender::Task, Sender::Thread], None));
}

#[test]
fn shuttle_everybody_learns_of_a_failed_sync() {
    for fault in 0..4 {
        check(scenario(&[Sender::Thread, Sender::Task, Sender::Task], Some(fault)));
    }
}

/// A record goes from the tail to a piece to the file while it is looked for; with a fault, it never comes to the file.
fn reading(fault: Option<u64>) -> impl Fn() + Clone + Send + Sync + 'static {
    move || {
        let disk = FaultyDisk::new(1);
        let log = open(&disk);
        if let Some(fault) = fault {
            disk.fail_change(disk.changes() + fault, Fault::PowerCut);
        }
        let committing = log.clone();
        let thread = thread::spawn(move || _ = committing.commit());
        if let Ok(appended) = log.append(Room::Ordinary, &mut |batch| _ = batch.put(1, &[b"body"])) {
            // Memory is let go of as soon as it may be.
            let forgetting = log.clone();
            let forget = thread::spawn(move || forgetting.forget(0, 0));
            match log.read(appended.first) {
                Ok(record) => assert_eq!(&record.body[..], b"body"),
                Err(ReadError::Io(_)) if fault.is_some() => {}
                Err(error) => panic!("{error:?}"),
            }
            forget.join().unwrap();
        }
        thread.join().unwrap();
    }
}

#[test]
fn shuttle_a_record_is_found_wherever_it_is() {
    check(reading(None));
    check(reading(Some(0)));
}

/// The negative control: a task that was chosen and neither comes back nor goes away is missed.
#[test]
#[should_panic(expected = "deadlock")]
fn shuttle_finds_a_lead_that_is_lost() {
    check(scenario(&[Sender::Sleeper, Sender::Task], None));
}
