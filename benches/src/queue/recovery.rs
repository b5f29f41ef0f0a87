//! A queue is filled by a process of its own, which is killed, and opened by another: how long until the first message is out
//! again, whether all are, and what they took in memory and on the disk.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::contest::{Contest, QueueError};
use super::load::{Bodies, Load};
use super::row::{Figure, RecoveryRow, ratio_to_best};
use super::scenario::Scenario;
use super::{Candidate, Origin, Policy, Queue, Setting, Trouble, disk, drive};
use crate::cli::remark;
use crate::clock::Stopwatch;
use crate::proxy_faults::process::Process;
use crate::report::rounded;

/// The first argument that makes this binary fill a queue and wait to be killed: `fill NAME FOLDER SIZE COUNT`.
pub const FILL: &str = "fill";

/// The first argument that makes it open one and drain it: `reopen NAME FOLDER SIZE COUNT`.
pub const REOPEN: &str = "reopen";

/// How long filling a million messages, or fewer, may take.
const MAX_FILL: Duration = Duration::from_secs(40);

/// How long draining as many may take.
const MAX_DRAIN: Duration = Duration::from_secs(4);

/// The process that drains looks at its memory once in so many messages.
const LOOK_EVERY: u64 = 10_000;

/// What a process of either role leaves behind when it is done, beside the folder.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Report {
    trouble: Option<String>,
    messages: u64,
    seconds: f64,
    resident_bytes: u64,
    server: Option<i32>,
    open_ms: f64,
    first_ms: f64,
    is_cut_short: bool,
    peak_bytes: u64,
}

impl Contest {
    /// `recovery`: one round, as it takes long.
    ///
    /// # Errors
    ///
    /// [`QueueError`] if one of ours failed or lost messages.
    pub fn recover(&mut self, size: usize, candidates: &[Candidate]) -> Result<Vec<RecoveryRow>, QueueError> {
        let mut rows: Vec<(Origin, RecoveryRow)> = Vec::new();
        for candidate in candidates.iter().filter(|candidate| Scenario::Recovery.admits(candidate)) {
            self.disk.settle().map_err(QueueError::Folder)?;
            let folder = self.workplace.fresh(&format!("{}-recovery", candidate.name)).map_err(QueueError::Folder)?;
            let row = recover(candidate, &folder, size, self.pace.backlog);
            disk::remove(&folder).map_err(QueueError::Folder)?;
            let failed = |trouble| QueueError::Failed {
                queue: candidate.name,
                scenario: Scenario::Recovery.name(),
                producers: 1,
                size,
                trouble,
            };
            match row {
                Ok(row) => rows.push((candidate.origin, row)),
                Err(trouble) if candidate.origin == Origin::Ours => return Err(failed(trouble)),
                Err(trouble) => remark(format_args!("left out: {}", failed(trouble))),
            }
        }
        let figure = |(origin, row): &(Origin, RecoveryRow)| Figure {
            origin: *origin,
            is_durable: true,
            merit: 1.0 / row.first_message_ms,
        };
        let figures: Vec<Figure> = rows.iter().map(figure).collect();
        for ((_, row), figure) in rows.iter_mut().zip(&figures) {
            row.ratio_to_best_peer = ratio_to_best(figure, Origin::Peer, &figures).map(|ratio| rounded(ratio, 3));
        }
        if rows.is_empty() {
            Err(QueueError::Nobody("recovery"))
        } else {
            Ok(rows.into_iter().map(|(_, row)| row).collect())
        }
    }
}

fn recover(candidate: &Candidate, folder: &Path, size: usize, count: u64) -> Result<RecoveryRow, Trouble> {
    let (filler, filled) = start(FILL, candidate, folder, size, count)?;
    let disk_bytes = disk::bytes_of(folder)?;
    if let Some(server) = filled.server {
        kill(Pid::from_raw(server), Signal::SIGKILL)?;
    }
    filler.kill()?;
    let (opener, opened) = start(REOPEN, candidate, folder, size, filled.messages)?;
    drop(opener);
    if !opened.is_cut_short && opened.messages != filled.messages || opened.messages > filled.messages {
        return Err(format!("{} messages were confirmed, and {} came back", filled.messages, opened.messages).into());
    }
    let per_message = |bytes: u64| rounded(bytes as f64 / filled.messages as f64, 1);
    Ok(RecoveryRow {
        scenario: Scenario::Recovery.name(),
        queue: candidate.name,
        sync: candidate.sync,
        size,
        messages: filled.messages,
        fill_s: rounded(filled.seconds, 2),
        memory_bytes_per_message: per_message(filled.resident_bytes),
        disk_bytes_per_message: per_message(disk_bytes),
        open_ms: rounded(opened.open_ms, 2),
        first_message_ms: rounded(opened.first_ms, 2),
        found: opened.messages,
        is_cut_short: opened.is_cut_short,
        peak_mib: rounded(opened.peak_bytes as f64 / f64::from(1 << 20), 1),
        ratio_to_best_peer: None,
    })
}

/// Starts this binary in a role, and waits for its report.
fn start(
    role: &str,
    candidate: &Candidate,
    folder: &Path,
    size: usize,
    count: u64,
) -> Result<(Process, Report), Trouble> {
    let arguments: [OsString; 5] =
        [role.into(), candidate.name.into(), folder.into(), size.to_string().into(), count.to_string().into()];
    let mut process = Process::start(std::env::current_exe()?.as_os_str(), &arguments, true)?;
    let file = folder.with_extension(role);
    loop {
        let is_alive = process.is_alive()?;
        if let Ok(text) = fs::read(&file) {
            fs::remove_file(&file)?;
            let report: Report = serde_json::from_slice(&text)?;
            return match report.trouble {
                Some(trouble) => Err(trouble.into()),
                None => Ok((process, report)),
            };
        }
        if !is_alive {
            return Err(format!("the process that was to {role} it has ended").into());
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Either role.
///
/// # Errors
///
/// That the arguments are wrong or the report cannot be written.
pub fn play(role: &str, arguments: &[OsString]) -> Result<(), Trouble> {
    let [name, folder, size, count] = arguments else { return Err("a role takes four arguments".into()) };
    let number = |text: &OsString| text.to_string_lossy().parse::<u64>();
    let (folder, size, count) = (Path::new(folder), usize::try_from(number(size)?)?, number(count)?);
    let candidates = super::select(&[name.to_string_lossy().into_owned()])?;
    // A kill takes nothing from the system, so that what syncs on a timer is filled without waiting for each sync.
    let is_lazy =
        |candidate: &&Candidate| role == FILL && candidate.origin == Origin::Peer && candidate.sync == Policy::Interval;
    let is_durable = |candidate: &&Candidate| candidate.sync == Policy::Always;
    let candidate = candidates.iter().find(is_lazy).or_else(|| candidates.iter().find(is_durable));
    let candidate = candidate.ok_or("it does not sync")?;
    let played =
        if role == FILL { fill(candidate, folder, size, count) } else { reopen(candidate, folder, size, count) };
    let (queue, report) = match played {
        Ok((queue, report)) => (Some(queue), report),
        Err(trouble) => (None, Report { trouble: Some(trouble.to_string()), ..Report::default() }),
    };
    let (draft, file) = (folder.with_extension("draft"), folder.with_extension(role));
    fs::write(&draft, serde_json::to_vec(&report)?)?;
    fs::rename(draft, file)?;
    if role == FILL && queue.is_some() {
        // Killed with the queue open.
        loop {
            thread::park();
        }
    }
    Ok(())
}

type Played = Result<(Box<dyn Queue>, Report), Trouble>;

/// So many times as much as a million messages may take.
fn millions(count: u64) -> u32 {
    u32::try_from(count.div_ceil(1_000_000)).unwrap_or(u32::MAX).max(1)
}

fn fill(candidate: &Candidate, folder: &Path, size: usize, count: u64) -> Played {
    let max_fill = MAX_FILL * millions(count);
    let load = Load {
        producers: 1,
        window: max_fill,
        warm_up: Duration::ZERO,
        timed_one_of: 1,
        max_messages: count,
        bodies: Bodies::of(size),
    };
    let queue = (candidate.open)(&setting(candidate, folder, size))?;
    let worker = queue.server().unwrap_or_else(Pid::this);
    let before = resident_bytes(worker)?;
    let stopwatch = Stopwatch::start();
    let messages = drive::fill(queue.as_ref(), &load, count, max_fill)?;
    let seconds = stopwatch.elapsed().as_secs_f64();
    if messages < count {
        return Err(format!("only {messages} of {count} messages in {max_fill:?}").into());
    }
    let resident_bytes = resident_bytes(worker)?.saturating_sub(before);
    let server = queue.server().map(Pid::as_raw);
    Ok((queue, Report { messages, seconds, resident_bytes, server, ..Report::default() }))
}

fn reopen(candidate: &Candidate, folder: &Path, size: usize, count: u64) -> Played {
    let (bodies, max_drain) = (Bodies::of(size), MAX_DRAIN * millions(count));
    let stopwatch = Stopwatch::start();
    let queue = (candidate.open)(&setting(candidate, folder, size))?;
    let open_ms = stopwatch.elapsed().as_secs_f64() * 1e3;
    let mut wrong = 0_u64;
    let mut look = |body: &[u8]| wrong += u64::from(!bodies.has(body));
    let mut taker = queue.taker().ok_or("nothing can be taken from it")?;
    let mut messages = taker.take_waiting(Duration::from_secs(5), &mut look)? as u64;
    let first_ms = stopwatch.elapsed().as_secs_f64() * 1e3;
    let mut peak_bytes = resident_bytes(Pid::this())?;
    let mut is_cut_short = true;
    while stopwatch.elapsed() < max_drain {
        let taken = taker.take(100, &mut look)?;
        messages += taken as u64;
        if messages / LOOK_EVERY != (messages - taken as u64) / LOOK_EVERY {
            peak_bytes = peak_bytes.max(resident_bytes(Pid::this())?);
        }
        if taken == 0 {
            is_cut_short = false;
            break;
        }
    }
    drop(taker);
    if wrong > 0 {
        return Err(format!("{wrong} wrong bodies").into());
    }
    Ok((queue, Report { messages, open_ms, first_ms, is_cut_short, peak_bytes, ..Report::default() }))
}

fn setting<'a>(candidate: &Candidate, folder: &'a Path, size: usize) -> Setting<'a> {
    Setting { sync: candidate.sync, folder, scenario: Scenario::Recovery, size }
}

/// Resident memory of a process, shared files that it has mapped left out.
fn resident_bytes(pid: Pid) -> Result<u64, Trouble> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).ok_or("no RssAnon")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<u64>()? * 1024)
}
