//! The same table behind one thread that commits, in one transaction, all that waits: group commit by hand.

use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender as JobSender, unbounded};
use tokio::sync::oneshot;

use super::super::load::{Lap, Load};
use super::super::{Outcome, Queue, Sender, Setting, Taker, Trouble, drive};
use super::sqlite::Table;

/// The largest transaction.
const MAX_JOBS: usize = 4096;

/// Its id and its body.
type Claimed = (i64, Vec<u8>);

enum Job {
    Insert(Bytes, Confirm),
    InsertAll(Vec<Bytes>, Confirm),
    Claim(mpsc::SyncSender<Option<Claimed>>),
    Ack(i64, Confirm),
    Count(mpsc::SyncSender<u64>),
}

enum Confirm {
    Thread(mpsc::SyncSender<()>),
    Task(oneshot::Sender<()>),
}

impl Confirm {
    fn confirm(self) {
        // Whoever gave up waiting is gone.
        match self {
            Self::Thread(sender) => drop(sender.send(())),
            Self::Task(sender) => drop(sender.send(())),
        }
    }
}

/// What is told once the transaction is committed.
enum Answer {
    Done(Confirm),
    Claimed(mpsc::SyncSender<Option<Claimed>>, Option<Claimed>),
    Counted(mpsc::SyncSender<u64>, u64),
}

struct Committer {
    jobs: Option<JobSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

pub(super) fn open(setting: &Setting<'_>) -> Result<Box<dyn Queue>, Trouble> {
    let table = Table::open(setting)?;
    let (jobs, waiting) = unbounded();
    // A transaction that fails ends the thread, and everybody who waits learns it.
    let thread = thread::spawn(move || drop(commit_all(&table, &waiting)));
    Ok(Box::new(Committer { jobs: Some(jobs), thread: Some(thread) }))
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn commit_all(table: &Table, waiting: &Receiver<Job>) -> rusqlite::Result<()> {
    while let Ok(first) = waiting.recv() {
        let jobs = std::iter::once(first).chain(waiting.try_iter()).take(MAX_JOBS);
        let answers = table.together(|table| jobs.map(|job| run(table, job)).collect::<rusqlite::Result<Vec<_>>>())?;
        for answer in answers {
            match answer {
                Answer::Done(confirm) => confirm.confirm(),
                Answer::Claimed(sender, claimed) => drop(sender.send(claimed)),
                Answer::Counted(sender, count) => drop(sender.send(count)),
            }
        }
    }
    Ok(())
}

fn run(table: &Table, job: Job) -> rusqlite::Result<Answer> {
    Ok(match job {
        Job::Insert(body, confirm) => {
            table.insert(&body)?;
            Answer::Done(confirm)
        }
        Job::InsertAll(bodies, confirm) => {
            bodies.iter().try_for_each(|body| table.insert(body))?;
            Answer::Done(confirm)
        }
        Job::Claim(sender) => Answer::Claimed(sender, table.claim()?),
        Job::Ack(id, confirm) => {
            table.ack(id)?;
            Answer::Done(confirm)
        }
        Job::Count(sender) => Answer::Counted(sender, table.count()?),
    })
}

impl Committer {
    fn client(&self) -> Option<Client> {
        Some(Client { jobs: self.jobs.clone()?, confirms: mpsc::sync_channel(1), claims: mpsc::sync_channel(1) })
    }
}

impl Queue for Committer {
    fn sender(&self) -> Option<Box<dyn Sender + '_>> {
        self.client().map(|client| Box::new(client) as Box<dyn Sender>)
    }

    fn taker(&self) -> Option<Box<dyn Taker + '_>> {
        self.client().map(|client| Box::new(client) as Box<dyn Taker>)
    }

    fn tasks(&self, load: &Load) -> Result<Option<Lap>, Trouble> {
        let runtime = drive::runtime()?;
        let make = || {
            let jobs = self.jobs.clone().ok_or("closed")?;
            Ok(move |body: Bytes| {
                let (sender, receiver) = oneshot::channel();
                let sent = jobs.send(Job::Insert(body, Confirm::Task(sender)));
                async move {
                    sent.map_err(|_| "the committer failed")?;
                    Ok(receiver.await?)
                }
            })
        };
        drive::tasks(&runtime, load, make).map(Some)
    }

    fn held(&self) -> Result<Option<u64>, Trouble> {
        let (sender, receiver) = mpsc::sync_channel(1);
        let jobs = self.jobs.as_ref().ok_or("closed")?;
        jobs.send(Job::Count(sender)).map_err(|_| "the committer failed")?;
        Ok(Some(receiver.recv()?))
    }
}

struct Client {
    jobs: JobSender<Job>,
    confirms: (mpsc::SyncSender<()>, mpsc::Receiver<()>),
    claims: (mpsc::SyncSender<Option<Claimed>>, mpsc::Receiver<Option<Claimed>>),
}

impl Client {
    fn run(&self, job: Job) -> Outcome {
        self.jobs.send(job).map_err(|_| "the committer failed")?;
        Ok(self.confirms.1.recv()?)
    }

    fn confirm(&self) -> Confirm {
        Confirm::Thread(self.confirms.0.clone())
    }
}

impl Sender for Client {
    fn send(&mut self, body: &Bytes) -> Outcome {
        self.run(Job::Insert(body.clone(), self.confirm()))
    }

    fn send_batch(&mut self, bodies: &[Bytes]) -> Result<bool, Trouble> {
        self.run(Job::InsertAll(bodies.to_vec(), self.confirm()))?;
        Ok(true)
    }
}

impl Taker for Client {
    fn take(&mut self, _: usize, look: &mut dyn FnMut(&[u8])) -> Result<usize, Trouble> {
        self.jobs.send(Job::Claim(self.claims.0.clone())).map_err(|_| "the committer failed")?;
        let Some((id, body)) = self.claims.1.recv()? else { return Ok(0) };
        look(&body);
        self.run(Job::Ack(id, self.confirm()))?;
        Ok(1)
    }
}
