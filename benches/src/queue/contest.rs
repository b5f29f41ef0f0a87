//! Queues take turns, round after round, each turn with fresh files on a settled disk, so that whatever the machine does
//! meanwhile falls on all of them alike.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::disk::{self, Disk};
use super::load::{BATCH, Bodies, Lap, Load};
use super::row::{Figure, Row, ratio_to_best};
use super::scenario::Scenario;
use super::{Candidate, Origin, Policy, Queue, Setting, Trouble, drive, paced};
use crate::cli::remark;
use crate::report::{median, rounded};

/// The variable that names the folder below which walrus makes its own. It is read once, before anything is opened.
pub const WALRUS_FOLDER: &str = "WALRUS_DATA_DIR";

/// Bytes of bodies that a turn sends at most.
const MAX_BYTES: u64 = 1 << 30;

/// Messages that `consume` is given to take at most: with a wait for each ack, and without.
const MAX_DURABLE_BACKLOG: u64 = 60_000;
const MAX_RELAXED_BACKLOG: u64 = 2_000_000;

/// How long filling for `consume` may take.
const FILL: Duration = Duration::from_secs(2);

/// How long turns are, and how many.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How often each queue has its turn, at least 1.
    pub rounds: usize,
    /// How long a turn is timed.
    pub window: Duration,
    /// How long it runs before that.
    pub warm_up: Duration,
    /// How long the disk is waited for before a turn.
    pub patience: Duration,
    /// Messages of `recovery`.
    pub backlog: u64,
    /// Whether it is short, for a look.
    pub is_quick: bool,
}

impl Pace {
    /// Five rounds of a second.
    pub const FULL: Self = Self {
        rounds: 5,
        window: Duration::from_secs(1),
        warm_up: Duration::from_millis(250),
        patience: Duration::from_secs(20),
        backlog: 1_000_000,
        is_quick: false,
    };
    /// One of a tenth of that.
    pub const QUICK: Self = Self {
        rounds: 1,
        window: Duration::from_millis(100),
        warm_up: Duration::from_millis(20),
        patience: Duration::from_millis(500),
        backlog: 20_000,
        is_quick: true,
    };
}

/// What stands beside each other: the same scenario, size, number of producers.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    /// What is done.
    pub scenario: Scenario,
    /// The size of a body.
    pub size: usize,
    /// Threads or tasks.
    pub producers: usize,
}

/// Why there is no figure.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// A queue of ours failed, or any queue lied.
    #[error("{queue}, {scenario}, {producers} producers of {size} bytes: {trouble}")]
    Failed {
        /// Which.
        queue: &'static str,
        /// At what.
        scenario: &'static str,
        /// Of how many.
        producers: usize,
        /// Of what size.
        size: usize,
        /// What it said.
        trouble: Trouble,
    },
    /// The folder or the disk.
    #[error("cannot use the folder")]
    Folder(#[source] io::Error),
    /// Nobody was left.
    #[error("no queue that was asked for takes part in `{0}`")]
    Nobody(&'static str),
}

/// A folder for the files of all, gone when this is.
#[derive(Debug)]
pub struct Workplace(PathBuf);

impl Workplace {
    /// Makes one below `folder`.
    ///
    /// # Errors
    ///
    /// What the system gave.
    pub fn below(folder: &Path) -> io::Result<Self> {
        let path = std::path::absolute(folder)?.join(format!("tenfold-queue-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A new folder in it.
    pub(super) fn fresh(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.0.join(name);
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir_all(&path)?;
        Ok(path)
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        // Left behind, it is seen where it was asked for.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The contest.
#[derive(Debug)]
pub struct Contest {
    /// How long.
    pub pace: Pace,
    /// Where.
    pub workplace: Workplace,
    /// On what.
    pub disk: Disk,
}

struct Contender {
    candidate: Candidate,
    mode: Mode,
    laps: Vec<Lap>,
    probes_us: Vec<f64>,
    is_out: bool,
}

/// How messages are sent or taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    One,
    Batch,
    Window,
    Tasks,
    Turns,
    Hop,
}

impl Mode {
    fn of(cell: Cell) -> &'static [Self] {
        match cell.scenario {
            Scenario::Relaxed if cell.producers == 1 => &[Self::One, Self::Window],
            Scenario::Batch => &[Self::Batch],
            Scenario::Window => &[Self::Window],
            Scenario::Tasks => &[Self::Tasks],
            Scenario::Memory => &[Self::Turns, Self::Batch, Self::Hop],
            _ => &[Self::One],
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Batch => "batch",
            Self::Window => "window",
            Self::Tasks => "tasks",
            Self::Turns => "turns",
            Self::Hop => "hop",
        }
    }
}

impl Contest {
    /// Holds it for one cell; all but `recovery`.
    ///
    /// # Errors
    ///
    /// [`QueueError`] if one of ours failed, or if any queue gave back what was not sent. Another queue that fails is said on
    /// stderr and left out.
    pub fn run(&mut self, cell: Cell, candidates: &[Candidate]) -> Result<Vec<Row>, QueueError> {
        let mut rows = Vec::new();
        let bodies = Bodies::of(cell.size);
        for &mode in Mode::of(cell) {
            let fit = candidates.iter().filter(|candidate| cell.scenario.admits(candidate));
            // One thread's write has nobody to share a sync with.
            let fit = fit.filter(|candidate| candidate.name != "bare-write" || cell.producers == 1);
            let contender =
                |&candidate| Contender { candidate, mode, laps: Vec::new(), probes_us: Vec::new(), is_out: false };
            let mut contenders: Vec<Contender> = fit.map(contender).collect();
            for round in 0..self.pace.rounds {
                for contender in contenders.iter_mut().filter(|contender| !contender.is_out) {
                    self.turn(cell, &bodies, round, contender)?;
                }
            }
            rows.extend(rows_of(cell, &contenders));
        }
        if rows.is_empty() { Err(QueueError::Nobody(cell.scenario.name())) } else { Ok(rows) }
    }

    fn turn(&mut self, cell: Cell, bodies: &Bodies, round: usize, contender: &mut Contender) -> Result<(), QueueError> {
        let candidate = contender.candidate;
        // walrus knows folders by name for as long as the process lives: each is used once.
        let name = format!("{}-{:?}-{round}-{}-{}", candidate.name, candidate.sync, cell.producers, cell.size);
        let name = format!("{name}-{}", contender.mode.name());
        let folder = self.workplace.fresh(&format!("{name}-{}", cell.scenario.name())).map_err(QueueError::Folder)?;
        if candidate.sync != Policy::None {
            contender.probes_us.push(self.disk.settle().map_err(QueueError::Folder)?);
        }
        let setting = Setting { sync: candidate.sync, folder: &folder, scenario: cell.scenario, size: cell.size };
        let lap = (candidate.open)(&setting).and_then(|queue| self.lap(cell, bodies, contender, queue.as_ref()));
        disk::remove(&folder).map_err(QueueError::Folder)?;
        let failed = |trouble| QueueError::Failed {
            queue: candidate.name,
            scenario: cell.scenario.name(),
            producers: cell.producers,
            size: cell.size,
            trouble,
        };
        match lap {
            Ok(Some(lap)) if lap.wrong > 0 => return Err(failed(format!("{} wrong bodies", lap.wrong).into())),
            Ok(Some(lap)) => contender.laps.push(lap),
            // It cannot do this.
            Ok(None) => contender.is_out = true,
            Err(trouble) if candidate.origin == Origin::Ours => return Err(failed(trouble)),
            Err(trouble) => {
                remark(format_args!("left out: {}", failed(trouble)));
                contender.is_out = true;
            }
        }
        Ok(())
    }

    fn lap(
        &self,
        cell: Cell,
        bodies: &Bodies,
        contender: &Contender,
        queue: &dyn Queue,
    ) -> Result<Option<Lap>, Trouble> {
        let load = self.load(cell, bodies, contender.candidate);
        let lap = match (cell.scenario, contender.mode) {
            // A log that nothing is taken from has no other end.
            (Scenario::EndToEnd, _) if contender.candidate.origin != Origin::Baseline && queue.taker().is_none() => {
                None
            }
            (Scenario::EndToEnd, _) => {
                let window = if self.pace.is_quick { load.window } else { load.window * 4 };
                return paced::run(queue, &Load { window, ..load });
            }
            (Scenario::Memory, Mode::Batch) => return in_turns(queue, &load, BATCH),
            (Scenario::Memory, Mode::Turns) => return in_turns(queue, &load, 1),
            (Scenario::Memory, _) => return hop(queue, &load),
            (Scenario::Consume, _) => return consume(queue, &load),
            (_, Mode::Batch) => drive::batches(queue, &load)?,
            (_, Mode::Window) => queue.window(&load)?,
            (_, Mode::Tasks) => queue.tasks(&load)?,
            _ if contender.candidate.is_server => queue.tasks(&load)?,
            _ => drive::threads(queue, &load)?,
        };
        if let (Some(lap), Some(held)) = (&lap, queue.held()?)
            && held != lap.messages
        {
            return Err(format!("{} messages were confirmed, and it holds {held}", lap.messages).into());
        }
        Ok(lap)
    }

    fn load(&self, cell: Cell, bodies: &Bodies, candidate: Candidate) -> Load {
        let is_fast = candidate.sync != Policy::Always || cell.scenario == Scenario::Memory;
        let max_messages = match cell.scenario {
            Scenario::Consume if candidate.sync == Policy::Always => MAX_DURABLE_BACKLOG,
            Scenario::Consume => MAX_RELAXED_BACKLOG,
            Scenario::Memory => u64::MAX,
            _ => MAX_BYTES / cell.size as u64,
        };
        Load {
            producers: cell.producers,
            window: self.pace.window,
            warm_up: self.pace.warm_up,
            timed_one_of: if is_fast { 16 } else { 1 },
            max_messages: if self.pace.is_quick { max_messages.min(200_000) } else { max_messages },
            bodies: bodies.clone(),
        }
    }
}

/// Fills the queue, then takes from it until it is empty or time is up.
fn consume(queue: &dyn Queue, load: &Load) -> Result<Option<Lap>, Trouble> {
    if queue.taker().is_none() {
        return Ok(None);
    }
    let filled = drive::fill(queue, load, load.max_messages, FILL)?;
    let load = Load { warm_up: load.warm_up / 4, max_messages: u64::MAX, ..load.clone() };
    let Some(lap) = drive::takers(queue, &load)? else { return Ok(None) };
    if let Some(held) = queue.held()?
        && held + lap.messages != filled
    {
        return Err(format!("of {filled} messages {} were taken, and {held} are left", lap.messages).into());
    }
    if lap.messages > filled {
        return Err(format!("of {filled} messages {} were taken", lap.messages).into());
    }
    Ok(Some(lap))
}

/// One thread sends so many, and takes them again.
fn in_turns(queue: &dyn Queue, load: &Load, count: usize) -> Result<Option<Lap>, Trouble> {
    let (Some(mut sender), Some(mut taker)) = (queue.sender(), queue.taker()) else { return Ok(None) };
    let batch: Vec<_> = (0..count as u64).map(|number| load.bodies.get(number).clone()).collect();
    let mut wrong = 0;
    let mut look = |body: &[u8]| wrong += u64::from(body.len() != load.bodies.size());
    let mut lap = load.run(|number| {
        if count == 1 {
            sender.send(load.bodies.get(number))?;
        } else {
            sender.send_batch(&batch)?;
        }
        let taken = taker.take(count, &mut look)?;
        if taken == count { Ok(taken) } else { Err(Trouble::from(format!("{taken} of {count} came back"))) }
    })?;
    taker.settle()?;
    lap.wrong = wrong;
    Ok(Some(lap))
}

/// One thread sends, another takes.
fn hop(queue: &dyn Queue, load: &Load) -> Result<Option<Lap>, Trouble> {
    let (Some(mut sender), Some(mut taker)) = (queue.sender(), queue.taker()) else { return Ok(None) };
    std::thread::scope(|scope| {
        let receiver = scope.spawn(move || {
            let mut wrong = 0;
            let mut look = |body: &[u8]| wrong += u64::from(!load.bodies.has(body));
            // Longer than the sender sends: nothing for a while is the end.
            let mut taken = 0_u64;
            let stopwatch = crate::clock::Stopwatch::start();
            let mut last = Duration::ZERO;
            loop {
                let mut count = taker.take(1, &mut look)?;
                if count == 0 {
                    count = taker.take_waiting(Duration::from_millis(200), &mut look)?;
                }
                if count == 0 {
                    break;
                }
                taken += count as u64;
                if taken.is_multiple_of(1024) {
                    last = stopwatch.elapsed();
                }
            }
            taker.settle()?;
            let per_second = (taken - taken % 1024) as f64 / last.as_secs_f64().max(1e-9);
            Ok(Lap { per_second, messages: taken, wrong, ..Lap::default() })
        });
        let sent = load.run(|number| sender.send(load.bodies.get(number)).map(|()| 1));
        let lap: Result<Lap, Trouble> = receiver.join().unwrap_or_else(|_| Err("the receiver panicked".into()));
        let (sent, lap) = (sent?, lap?);
        if sent.messages == lap.messages {
            Ok(Some(lap))
        } else {
            Err(format!("of {} messages {} came", sent.messages, lap.messages).into())
        }
    })
}

fn rows_of(cell: Cell, contenders: &[Contender]) -> Vec<Row> {
    let is_latency = cell.scenario == Scenario::EndToEnd;
    let middle = |figures: Vec<f64>, decimals| median(&figures).map(|figure| rounded(figure, decimals));
    let quantile = |contender: &Contender, fraction| {
        middle(contender.laps.iter().filter_map(|lap| lap.latencies.quantile_us(fraction)).collect(), 2)
    };
    let measured: Vec<(&Contender, Figure, f64)> = contenders
        .iter()
        .filter(|contender| !contender.is_out)
        .filter_map(|contender| {
            let per_second = median(&contender.laps.iter().map(|lap| lap.per_second).collect::<Vec<_>>())?;
            let merit = if is_latency { 1.0 / quantile(contender, 0.5)? } else { per_second };
            let is_durable = contender.candidate.sync == Policy::Always;
            Some((contender, Figure { origin: contender.candidate.origin, is_durable, merit }, per_second))
        })
        .collect();
    let figures: Vec<Figure> = measured.iter().map(|&(_, figure, _)| figure).collect();
    let row = |&(contender, figure, per_second): &(&Contender, Figure, f64)| Row {
        scenario: cell.scenario.name(),
        mode: contender.mode.name(),
        queue: contender.candidate.name,
        sync: contender.candidate.sync,
        size: cell.size,
        producers: cell.producers,
        per_second: rounded(per_second, 0),
        p50_us: quantile(contender, 0.5),
        p99_us: quantile(contender, 0.99),
        ratio_to_best_peer: ratio_to_best(&figure, Origin::Peer, &figures).map(|ratio| rounded(ratio, 3)),
        ratio_to_baseline: ratio_to_best(&figure, Origin::Baseline, &figures).map(|ratio| rounded(ratio, 3)),
        probe_us: middle(contender.probes_us.clone(), 1),
    };
    measured.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use bytes::Bytes;
    use parking_lot::Mutex;

    use super::*;
    use crate::queue::{Outcome, Sender, Taker};

    /// Confirms everything, and makes of it what its fault is.
    struct Liar {
        held: Mutex<VecDeque<Bytes>>,
        fault: Fault,
    }

    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Fault {
        None,
        Loses,
        Repeats,
        Garbles,
    }

    fn open(fault: Fault) -> Result<Box<dyn Queue>, Trouble> {
        Ok(Box::new(Liar { held: Mutex::default(), fault }))
    }

    impl Queue for Liar {
        fn sender(&self) -> Option<Box<dyn Sender + '_>> {
            Some(Box::new(self))
        }

        fn taker(&self) -> Option<Box<dyn Taker + '_>> {
            Some(Box::new(self))
        }

        fn held(&self) -> Result<Option<u64>, Trouble> {
            Ok(Some(self.held.lock().len() as u64))
        }
    }

    impl Sender for &Liar {
        fn send(&mut self, body: &Bytes) -> Outcome {
            let mut held = self.held.lock();
            let copies = match self.fault {
                Fault::Loses if held.len() == 7 => 0,
                Fault::Repeats if held.len() == 7 => 2,
                _ => 1,
            };
            held.extend(std::iter::repeat_n(body.clone(), copies));
            Ok(())
        }
    }

    impl Taker for &Liar {
        fn take(&mut self, _: usize, look: &mut dyn FnMut(&[u8])) -> Result<usize, Trouble> {
            let Some(body) = self.held.lock().pop_front() else { return Ok(0) };
            look(if self.fault == Fault::Garbles { &body[1..] } else { &body });
            Ok(1)
        }
    }

    fn complaint(scenario: Scenario, open: fn(&Setting<'_>) -> Result<Box<dyn Queue>, Trouble>) -> Option<String> {
        let place = std::env::temp_dir().join(format!("contest-{open:p}-{}", scenario.name()));
        let workplace = Workplace::below(&place).unwrap();
        let disk = Disk::of(workplace.path(), Duration::ZERO).unwrap();
        let window = Duration::from_millis(5);
        let pace = Pace { window, warm_up: Duration::ZERO, patience: Duration::ZERO, ..Pace::QUICK };
        let candidate = Candidate {
            name: "liar",
            sync: Policy::Always,
            origin: Origin::Ours,
            is_server: false,
            only_in: None,
            open,
        };
        let outcome = Contest { pace, workplace, disk }.run(Cell { scenario, size: 100, producers: 1 }, &[candidate]);
        fs::remove_dir_all(place).unwrap();
        match outcome {
            Ok(rows) => {
                assert_eq!(rows.len(), 1);
                None
            }
            Err(QueueError::Failed { trouble, .. }) => Some(trouble.to_string()),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn a_queue_that_lies_is_found_out() {
        for scenario in [Scenario::Produce, Scenario::Consume, Scenario::EndToEnd] {
            assert_eq!(complaint(scenario, |_| open(Fault::None)), None, "{scenario:?}");
        }
        for fault in [|_: &Setting<'_>| open(Fault::Loses), |_: &Setting<'_>| open(Fault::Repeats)] {
            let said = complaint(Scenario::Produce, fault).unwrap();
            assert!(said.contains("were confirmed, and it holds"), "{said}");
        }
        let said = complaint(Scenario::Consume, |_| open(Fault::Garbles)).unwrap();
        assert!(said.contains("wrong bodies"), "{said}");
        let said = complaint(Scenario::EndToEnd, |_| open(Fault::Garbles)).unwrap();
        assert!(said.contains("wrong bodies"), "{said}");
    }
}
