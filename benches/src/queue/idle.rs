//! A queue full of messages that are not due, and a consumer that waits: what that costs while nothing happens.

use std::fs;
use std::time::Duration;

use super::contest::{Contest, QueueError};
use super::load::Bodies;
use super::row::IdleRow;
use super::scenario::Scenario;
use super::{Candidate, Origin, Queue, Setting, Trouble, disk};
use crate::clock::Stopwatch;
use crate::report::rounded;

/// None of the messages comes due while anybody looks.
const DELAY: Duration = Duration::from_secs(3_600);

/// The processor's time is counted in these; a hundred a second on every Linux that there is.
const TICK_MS: u64 = 10;

impl Contest {
    /// `idle`: one round of ten windows, since time is counted in coarse ticks.
    ///
    /// # Errors
    ///
    /// [`QueueError`] if a queue failed.
    pub fn idle(&mut self, size: usize, candidates: &[Candidate]) -> Result<Vec<IdleRow>, QueueError> {
        let mut rows = Vec::new();
        for candidate in candidates.iter().filter(|candidate| Scenario::Idle.admits(candidate)) {
            let folder = self.workplace.fresh(&format!("{}-idle", candidate.name)).map_err(QueueError::Folder)?;
            let row = idle(
                candidate,
                &Setting { sync: candidate.sync, folder: &folder, scenario: Scenario::Idle, size },
                self,
            );
            disk::remove(&folder).map_err(QueueError::Folder)?;
            rows.push(row.map_err(|trouble| QueueError::Failed {
                queue: candidate.name,
                scenario: Scenario::Idle.name(),
                producers: 1,
                size,
                trouble,
            })?);
        }
        if rows.is_empty() { Err(QueueError::Nobody("idle")) } else { Ok(rows) }
    }
}

fn idle(candidate: &Candidate, setting: &Setting<'_>, contest: &Contest) -> Result<IdleRow, Trouble> {
    debug_assert!(candidate.origin == Origin::Ours, "no peer delays messages");
    let messages = contest.pace.backlog;
    let queue: Box<dyn Queue> = (candidate.open)(setting)?;
    queue.delayed(&Bodies::of(setting.size), messages, DELAY)?;
    let mut taker = queue.taker().ok_or("nothing can be taken from it")?;
    let (stopwatch, before) = (Stopwatch::start(), busy_ms()?);
    let taken = taker.take_waiting(contest.pace.window * 10, &mut |_| ())?;
    let (ms, busy) = (stopwatch.elapsed().as_secs_f64() * 1e3, busy_ms()? - before);
    if taken > 0 {
        return Err("a message came before its time".into());
    }
    Ok(IdleRow {
        scenario: Scenario::Idle.name(),
        queue: candidate.name,
        sync: candidate.sync,
        size: setting.size,
        messages,
        seconds: rounded(ms / 1e3, 2),
        busy_percent: rounded(busy as f64 / ms * 100.0, 2),
    })
}

/// Processor time of this process, all threads.
fn busy_ms() -> Result<u64, Trouble> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(") ").ok_or("no name in /proc/self/stat")?;
    let ticks = fields.split(' ').skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(ticks * TICK_MS)
}
