//! Where and on what a run was made, for the report.

use std::fs;
use std::process::Command;

use tenfold_rig::{Cost, Fact, MachineUse};

/// The machine, as procfs describes it; what cannot be read is left out.
pub(crate) fn machine() -> Vec<Fact> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let cpu = field(&read("/proc/cpuinfo"), "model name");
    let cores = std::thread::available_parallelism().map(|cores| cores.to_string()).ok();
    let memory = field(&read("/proc/meminfo"), "MemTotal");
    let kernel = read("/proc/sys/kernel/osrelease").lines().next().map(|release| format!("Linux {release}"));
    let facts = [("processor", cpu), ("cores", cores), ("memory", memory), ("kernel", kernel)];
    facts.into_iter().filter_map(|(name, value)| Some(Fact::new(name, value?))).collect()
}

/// What the run took of it.
pub(crate) fn used(used: &MachineUse) -> Vec<Fact> {
    vec![
        Fact::new("cores used by the climb", format!("{:.2} of {:.0}", used.used_cores, used.cores)),
        Fact::new("machine busy", format!("{:.0} %", used.machine_share * 100.0)),
    ]
}

/// Every modelled quantity; none if nothing is modelled.
pub(crate) fn cost(cost: &Cost) -> Vec<Fact> {
    if cost.is_real() {
        return Vec::new();
    }
    let tiers = [
        ("single box", cost.single_box),
        ("web server", cost.web),
        ("database server", cost.database),
        ("hop to a cache server", cost.cache),
        ("worker", cost.worker),
    ];
    let mut facts: Vec<_> = tiers.iter().map(|(name, service)| Fact::new(*name, service.to_string())).collect();
    facts.push(Fact::new("line of a server", format!("at most {}", cost.max_waiting)));
    facts
}

/// The commit of the sources in this folder, where git knows it.
pub(crate) fn commit() -> Option<String> {
    let output = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output().ok()?;
    let id = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !id.is_empty()).then_some(id)
}

/// `2026-11-24 03:30 UTC`.
pub(crate) fn utc(unix_seconds: u64) -> String {
    let (days, seconds) = (unix_seconds / 86_400, unix_seconds % 86_400);
    // Counted in eras of 400 years that begin on 1 March, when the leap day is the last of the year (Hinnant 2013).
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let (hours, minutes) = (seconds / 3_600, seconds % 3_600 / 60);
    format!("{:04}-{month:02}-{date:02} {hours:02}:{minutes:02} UTC", era * 400 + year + next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_known_seconds() {
        assert_eq!(utc(0), "1970-01-01 00:00 UTC");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(utc(1_709_251_199), "2024-02-29 23:59 UTC");
        assert_eq!(utc(1_735_689_600), "2025-01-01 00:00 UTC");
    }
}
