//! What the run costs the machine, and whether the machine is free for it: read from procfs.
//!
//! On few cores the load generator itself is the first suspect. So a run first looks whether others use the machine,
//! and in the end compares what the whole machine did with what it can do.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use serde::Serialize;
use thiserror::Error;

use crate::clock::{self, Instant};

/// Above this share of the machine in use a run makes no claim.
pub const MAX_MACHINE_SHARE: f64 = 0.70;
/// Others may use this share of the machine at the start.
const MAX_OTHER_SHARE: f64 = 0.15;
const NAMED_PROCESSES: usize = 3;

/// What one process has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct ProcessUsage {
    /// Time on a processor, in user and kernel mode, in seconds.
    pub cpu_seconds: f64,
    /// Memory that is resident now, in bytes.
    pub rss_bytes: u64,
}

/// Reads what the process `pid` uses.
///
/// # Errors
/// There is no such process, or no procfs.
pub fn process_usage(pid: u32) -> io::Result<ProcessUsage> {
    let stat = Stat::read(pid)?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    // A zombie has no memory and no such line.
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).map_or("0", str::trim);
    let rss_kib: u64 = rss.split(' ').next().unwrap_or("0").parse().map_err(|_| garbled("VmRSS"))?;
    Ok(ProcessUsage { cpu_seconds: stat.own_ticks as f64 / ticks_per_second(), rss_bytes: rss_kib * 1024 })
}

/// Reads what this process uses.
///
/// # Errors
/// There is no procfs.
pub fn own_usage() -> io::Result<ProcessUsage> {
    process_usage(std::process::id())
}

/// Others use the machine; the figures would be theirs too.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BusyError {
    /// Too busy to begin.
    #[error(
        "the machine is not free: {:.0} % of it is in use by others ({}); stop them or pass --noisy",
        share * 100.0,
        if by.is_empty() { "short-lived processes" } else { by }
    )]
    Busy {
        /// Share of the whole machine, 0 to 1.
        share: f64,
        /// The greatest users, by name and id.
        by: String,
    },
    /// Nothing could be read.
    #[error("the use of the machine cannot be read")]
    Unreadable(#[source] io::Error),
}

/// What the machine does at the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Quiet {
    /// Share of the whole machine that others use, 0 to 1.
    pub other_share: f64,
    /// Whether that is too much, and the run goes on all the same as it was told to; the report must say so.
    pub noisy: bool,
}

/// Whether a run may go on beside other load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbours {
    /// Refuse to run beside other load.
    Refuse,
    /// Run all the same, and mark the report.
    Accept,
}

/// Watches the machine for `window` and says whether others use it.
///
/// # Errors
/// They do and are not accepted, or there is no procfs.
///
/// # Cancel safety
/// Safe.
pub async fn check_quiet(window: Duration, neighbours: Neighbours) -> Result<Quiet, BusyError> {
    let before = Snapshot::take().map_err(BusyError::Unreadable)?;
    clock::sleep(window).await;
    let after = Snapshot::take().map_err(BusyError::Unreadable)?;
    let elapsed = after.total_ticks.saturating_sub(before.total_ticks).max(1) as f64;
    let own = after.family_ticks.saturating_sub(before.family_ticks) as f64;
    let busy = after.busy_ticks.saturating_sub(before.busy_ticks) as f64;
    let other_share = ((busy - own) / elapsed).max(0.0);
    let noisy = other_share > MAX_OTHER_SHARE;
    if noisy && neighbours == Neighbours::Refuse {
        return Err(BusyError::Busy { share: other_share, by: after.greatest_since(&before) });
    }
    Ok(Quiet { other_share, noisy })
}

/// What a run cost the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct MachineUse {
    /// Length of the run in seconds.
    pub elapsed_s: f64,
    /// Cores of the machine.
    pub cores: f64,
    /// Cores that this process and its children used on average, ended children included.
    pub used_cores: f64,
    /// Share of the whole machine in use, by anybody, 0 to 1.
    pub machine_share: f64,
    /// Whether that is above [`MAX_MACHINE_SHARE`]: the harness is suspect and the run makes no claim.
    pub is_suspect: bool,
}

/// Measures a run from its making to [`finish`](Machine::finish).
#[derive(Debug)]
pub struct Machine {
    begin: Instant,
    before: Snapshot,
}

impl Machine {
    /// Begins to measure.
    ///
    /// # Errors
    /// There is no procfs.
    pub fn begin() -> io::Result<Self> {
        Ok(Self { begin: clock::now(), before: Snapshot::take()? })
    }

    /// What was used since the beginning; may be called again later.
    ///
    /// # Errors
    /// There is no procfs.
    pub fn finish(&self) -> io::Result<MachineUse> {
        let after = Snapshot::take()?;
        let elapsed_s = self.begin.elapsed().as_secs_f64().max(1e-3);
        let family = after.family_ticks.saturating_sub(self.before.family_ticks) as f64;
        let busy = after.busy_ticks.saturating_sub(self.before.busy_ticks) as f64;
        let total = after.total_ticks.saturating_sub(self.before.total_ticks).max(1) as f64;
        let machine_share = (busy / total).min(1.0);
        Ok(MachineUse {
            elapsed_s,
            cores: after.cores as f64,
            used_cores: family / ticks_per_second() / elapsed_s,
            machine_share,
            is_suspect: machine_share > MAX_MACHINE_SHARE,
        })
    }
}

/// Ticks of the whole machine and of each process at one instant.
#[derive(Debug)]
struct Snapshot {
    busy_ticks: u64,
    total_ticks: u64,
    cores: usize,
    /// This process, its living descendants, and those of its children that it has reaped.
    family_ticks: u64,
    family: Vec<u32>,
    processes: HashMap<u32, Stat>,
}

impl Snapshot {
    fn take() -> io::Result<Self> {
        let text = std::fs::read_to_string("/proc/stat")?;
        let (busy_ticks, total_ticks) = machine_ticks(&text).ok_or_else(|| garbled("/proc/stat"))?;
        let cores = text.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu ")).count();
        let mut processes = HashMap::new();
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // A process may end between the listing and the reading.
            if let Ok(stat) = Stat::read(pid) {
                processes.insert(pid, stat);
            }
        }
        let family = descendants(std::process::id(), &processes);
        let ticks = |pid: &u32| processes.get(pid).map_or(0, |stat| stat.own_ticks + stat.reaped_ticks);
        let family_ticks = family.iter().map(ticks).sum();
        Ok(Self { busy_ticks, total_ticks, cores: cores.max(1), family_ticks, family, processes })
    }

    /// Who but us used most since `before`.
    fn greatest_since(&self, before: &Self) -> String {
        let mut users: Vec<_> = self
            .processes
            .iter()
            .filter(|(pid, _)| !self.family.contains(pid))
            .map(|(pid, stat)| {
                let earlier = before.processes.get(pid).map_or(0, |stat| stat.own_ticks);
                (stat.own_ticks.saturating_sub(earlier), *pid, stat.name.as_str())
            })
            .filter(|(ticks, ..)| *ticks > 0)
            .collect();
        users.sort_unstable_by(|a, b| b.cmp(a));
        users.truncate(NAMED_PROCESSES);
        users.iter().map(|(_, pid, name)| format!("{name} {pid}")).collect::<Vec<_>>().join(", ")
    }
}

/// What is used here of `/proc/<pid>/stat`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stat {
    name: String,
    parent: u32,
    own_ticks: u64,
    reaped_ticks: u64,
}

impl Stat {
    fn read(pid: u32) -> io::Result<Self> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        Self::parse(&text).ok_or_else(|| garbled("stat"))
    }

    /// The name may hold spaces and brackets, so the fields are counted from the last closing bracket.
    fn parse(text: &str) -> Option<Self> {
        let (head, tail) = text.rsplit_once(')')?;
        let name = head.split_once('(')?.1.to_owned();
        let fields: Vec<_> = tail.split_ascii_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        let parent = fields.get(1)?.parse().ok()?;
        Some(Self { name, parent, own_ticks: number(11)? + number(12)?, reaped_ticks: number(13)? + number(14)? })
    }
}

/// All that a process has started and that lives, and what those have started, as far as the kernel says.
pub(crate) fn started_by(root: u32) -> Vec<u32> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        // A process may end meanwhile; then it has nothing any more.
        let threads = std::fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
        for thread in threads {
            let children = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            found.extend(children.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
        next += 1;
    }
    found.split_off(1)
}

/// Whether there is no such process any more, or only its exit code that nobody has asked for.
pub(crate) fn has_ended(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_none_or(|(_, fields)| matches!(fields.trim_start().as_bytes().first(), Some(b'Z' | b'X')))
}

fn descendants(root: u32, processes: &HashMap<u32, Stat>) -> Vec<u32> {
    let mut family = vec![root];
    let mut next = 0;
    while let Some(parent) = family.get(next).copied() {
        family.extend(processes.iter().filter(|(_, stat)| stat.parent == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    family
}

/// Busy and total ticks of the first line of `/proc/stat`; waiting for a disk is not busy, time taken by a host is.
fn machine_ticks(text: &str) -> Option<(u64, u64)> {
    let line = text.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = line.split_ascii_whitespace().take(8).map(|t| t.parse().ok()).collect::<Option<_>>()?;
    let total: u64 = ticks.iter().sum();
    let idle = ticks.get(3)? + ticks.get(4)?;
    Some((total - idle, total))
}

fn ticks_per_second() -> f64 {
    match nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK) {
        Ok(Some(ticks)) if ticks > 0 => ticks as f64,
        // Every Linux of today.
        _ => 100.0,
    }
}

fn garbled(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} is not as expected"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_names_with_brackets_and_spaces() {
        let text = "42 (a (b) c) S 7 42 42 0 -1 4194560 1 2 3 4 10 20 30 40 20 0 1 0 5";
        let stat = Stat::parse(text).unwrap();
        assert_eq!(stat, Stat { name: "a (b) c".into(), parent: 7, own_ticks: 30, reaped_ticks: 70 });
        assert_eq!(Stat::parse("42 (short) S 7"), None);
        assert_eq!(Stat::parse(""), None);
    }

    #[test]
    fn disk_waits_are_idle() {
        assert_eq!(machine_ticks("cpu  1 2 3 40 50 6 7 8 9 9\ncpu0 1"), Some((27, 117)));
        assert_eq!(machine_ticks("intr 1"), None);
    }

    #[test]
    fn reads_this_process() {
        let usage = own_usage().unwrap();
        assert!(usage.rss_bytes > 100_000, "{usage:?}");
        assert!(process_usage(u32::MAX).is_err());
    }

    #[test]
    fn work_shows_in_the_use_of_the_machine() {
        let machine = Machine::begin().unwrap();
        let begin = clock::now();
        let mut x = 0u64;
        while begin.elapsed() < Duration::from_millis(300) {
            x = std::hint::black_box(x.wrapping_mul(31).wrapping_add(1));
        }
        let used = machine.finish().unwrap();
        assert!(used.used_cores > 0.0 && used.machine_share > 0.0, "{used:?}");
        assert!(used.cores >= 1.0 && used.machine_share <= 1.0);
        assert_eq!(used.is_suspect, used.machine_share > MAX_MACHINE_SHARE);
    }

    #[tokio::test]
    async fn a_busy_machine_is_marked_when_accepted() {
        let quiet = check_quiet(Duration::from_millis(50), Neighbours::Accept).await.unwrap();
        assert_eq!(quiet.noisy, quiet.other_share > MAX_OTHER_SHARE);
    }
}
