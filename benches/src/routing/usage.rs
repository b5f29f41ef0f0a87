//! Processor time of other processes, as the scheduler counts it: to the nanosecond, where `stat` has hundredths of a second.

use std::fs;
use std::time::Duration;

use nix::unistd::Pid;

use super::Trouble;

/// Whom a process belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// This one, or a child of it.
    Parent(Pid),
    /// This group.
    Group(Pid),
}

/// Processes that are there now and belong to one of these.
///
/// # Errors
///
/// What reading `/proc` gave.
pub fn processes(owners: &[Of]) -> Result<Vec<Pid>, Trouble> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        // It may have ended meanwhile.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((parent, group)) = kin(&stat) else { continue };
        let belongs = |owner: &Of| match *owner {
            Of::Parent(of) => of.as_raw() == pid || of.as_raw() == parent,
            Of::Group(of) => of.as_raw() == group,
        };
        if owners.iter().any(belongs) {
            found.push(Pid::from_raw(pid));
        }
    }
    Ok(found)
}

/// What these have used together since they were started.
///
/// # Errors
///
/// That the kernel keeps no such account.
pub fn used(processes: &[Pid]) -> Result<Duration, Trouble> {
    let mut sum = 0;
    for pid in processes {
        // It may have ended meanwhile.
        let Ok(text) = fs::read_to_string(format!("/proc/{pid}/schedstat")) else { continue };
        let first = text.split_whitespace().next().ok_or("the kernel keeps no account of processor time")?;
        sum += first.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(sum))
}

/// Parent and group; the name of the program before them, in brackets, may hold anything.
fn kin(stat: &str) -> Option<(i32, i32)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(1);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_found_and_uses_something() {
        let own = nix::unistd::getpid();
        assert_eq!(kin("7 (a) b) S 3 4 5"), Some((3, 4)));
        assert!(processes(&[Of::Parent(own)]).unwrap().contains(&own));
        assert!(processes(&[Of::Group(nix::unistd::getpgrp())]).unwrap().contains(&own));
        assert!(used(&[own]).unwrap() > Duration::ZERO);
    }
}
