//! What processes used, as the kernel counts it under `/proc`.

use std::fs;
use std::io;
use std::time::Duration;

use nix::unistd::{Pid, SysconfVar, sysconf};

/// What a process group has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time since their start, user and system.
    pub cpu: Duration,
    /// Resident bytes now.
    pub resident_bytes: u64,
}

/// What the processes of the group have used together.
///
/// # Errors
///
/// What reading `/proc` gave.
pub fn of_group(group: Pid) -> io::Result<Usage> {
    let mut sum = Usage::default();
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        // A process that has ended meanwhile is none of the group.
        let Ok(text) = fs::read_to_string(path.join("stat")) else { continue };
        let Some(stat) = Stat::parse(&text) else { continue };
        if stat.group == group.as_raw() {
            sum.cpu += ticks(stat.cpu_ticks);
            sum.resident_bytes += stat.resident_pages * page_bytes();
        }
    }
    Ok(sum)
}

/// The processor time that all processes of the machine have used since it was started.
///
/// # Errors
///
/// What reading `/proc` gave, or that it makes no sense.
pub fn of_machine() -> io::Result<Duration> {
    let text = fs::read_to_string("/proc/stat")?;
    busy_ticks(&text).map(ticks).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The fields of `/proc/PID/stat` that count here.
struct Stat {
    group: i32,
    cpu_ticks: u64,
    resident_pages: u64,
}

impl Stat {
    /// The name of the program, in brackets, may itself hold blanks and brackets.
    fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        // Counted as in proc(5), where the state behind the brackets is field 3.
        let field = |number: usize| fields.get(number - 3);
        let cpu_ticks = field(14)?.parse::<u64>().ok()? + field(15)?.parse::<u64>().ok()?;
        Some(Self { group: field(5)?.parse().ok()?, cpu_ticks, resident_pages: field(24)?.parse().ok()? })
    }
}

/// User, nice, system, irq and softirq of the line for all processors; neither idle nor waiting for a disk.
fn busy_ticks(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let fields: Vec<u64> = line.split_whitespace().map_while(|field| field.parse().ok()).collect();
    [0, 1, 2, 5, 6].iter().map(|&index| fields.get(index)).sum()
}

fn ticks(count: u64) -> Duration {
    Duration::from_secs_f64(count as f64 / system(SysconfVar::CLK_TCK, 100) as f64)
}

fn page_bytes() -> u64 {
    system(SysconfVar::PAGE_SIZE, 4096)
}

fn system(variable: SysconfVar, usual: u64) -> u64 {
    let value = sysconf(variable).ok().flatten();
    value.and_then(|value| u64::try_from(value).ok()).filter(|&value| value > 0).unwrap_or(usual)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let text = "1234 (a) b (c) S 1 77 5 0 -1 4194560 1 2 3 4 250 150 0 0 20 0 1 0 99 8192000 321 1844";
        let stat = Stat::parse(text).unwrap();
        assert_eq!((stat.group, stat.cpu_ticks, stat.resident_pages), (77, 400, 321));
        assert!(Stat::parse("1234 (a) S 1").is_none());
    }

    #[test]
    fn idle_time_is_not_used_time() {
        let text = "cpu  10 1 5 1000 500 2 3 0 0 0\ncpu0 10 1 5 1000 500 2 3 0 0 0\n";
        assert_eq!(busy_ticks(text), Some(21));
        assert_eq!(busy_ticks("intr 1"), None);
    }

    #[test]
    fn this_process_uses_something() {
        let usage = of_group(nix::unistd::getpgrp()).unwrap();
        assert!(usage.resident_bytes > 100_000, "{usage:?}");
        assert!(of_machine().unwrap() > usage.cpu);
    }
}
