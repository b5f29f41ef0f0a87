//! What queues are put through.

use std::str::FromStr;

use super::{Candidate, Origin, Policy};

/// A kind of run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// Threads that wait for each confirm.
    Produce,
    /// 100 messages a call.
    Batch,
    /// Up to 1,024 unconfirmed.
    Window,
    /// Tasks that await each confirm.
    Tasks,
    /// Threads, without a sync.
    Relaxed,
    /// Take and ack.
    Consume,
    /// 500 messages a second.
    EndToEnd,
    /// Kill, open, receive.
    Recovery,
    /// Delayed messages alone.
    Idle,
    /// No disk.
    Memory,
}

/// A name that stands for no scenario.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no scenario is called `{name}`; there are produce, batch, window, tasks, relaxed, consume, end-to-end, recovery, idle, \
     memory, all"
)]
pub struct UnknownScenario {
    name: String,
}

impl Scenario {
    /// All, in the order in which they are run.
    pub const ALL: [Self; 10] = [
        Self::Produce,
        Self::Batch,
        Self::Window,
        Self::Tasks,
        Self::Relaxed,
        Self::Consume,
        Self::EndToEnd,
        Self::Recovery,
        Self::Idle,
        Self::Memory,
    ];

    /// The name on the command line and in rows.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Produce => "produce",
            Self::Batch => "batch",
            Self::Window => "window",
            Self::Tasks => "tasks",
            Self::Relaxed => "relaxed",
            Self::Consume => "consume",
            Self::EndToEnd => "end-to-end",
            Self::Recovery => "recovery",
            Self::Idle => "idle",
            Self::Memory => "memory",
        }
    }

    /// Whether this queue takes part.
    #[must_use]
    pub fn admits(self, candidate: &Candidate) -> bool {
        if let Some(only) = candidate.only_in {
            return only == self;
        }
        match self {
            Self::Produce | Self::Batch | Self::Window | Self::Tasks | Self::EndToEnd => {
                candidate.sync == Policy::Always
            }
            Self::Relaxed => matches!(candidate.sync, Policy::Interval | Policy::Os),
            Self::Consume => candidate.sync != Policy::None && candidate.origin != Origin::Baseline,
            Self::Recovery => candidate.origin != Origin::Baseline && candidate.sync == Policy::Always,
            Self::Idle => candidate.origin == Origin::Ours && candidate.sync == Policy::Os,
            Self::Memory => candidate.sync == Policy::None,
        }
    }

    /// The sizes of bodies, if none are asked for.
    #[must_use]
    pub fn sizes(self, is_quick: bool) -> &'static [usize] {
        match self {
            Self::Produce | Self::Batch | Self::Window | Self::Tasks | Self::Relaxed if !is_quick => &[100, 1024],
            _ => &[100],
        }
    }

    /// How many producers (consumers in `consume`), if no numbers are asked for.
    #[must_use]
    pub fn producers(self, is_quick: bool) -> &'static [usize] {
        match self {
            Self::Produce if is_quick => &[1, 4],
            Self::Produce => &[1, 16, 64],
            Self::Tasks if is_quick => &[64],
            Self::Tasks => &[64, 1_000],
            Self::Relaxed | Self::Consume if !is_quick => &[1, 16],
            _ => &[1],
        }
    }

    /// Whether another number of producers means anything.
    #[must_use]
    pub fn has_producers(self) -> bool {
        matches!(self, Self::Produce | Self::Tasks | Self::Relaxed | Self::Consume)
    }
}

impl FromStr for Scenario {
    type Err = UnknownScenario;

    fn from_str(name: &str) -> Result<Self, UnknownScenario> {
        let known = Self::ALL.into_iter().find(|scenario| scenario.name() == name);
        known.ok_or_else(|| UnknownScenario { name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for scenario in Scenario::ALL {
            assert_eq!(scenario.name().parse(), Ok(scenario));
        }
        assert!("all".parse::<Scenario>().unwrap_err().to_string().contains("`all`"));
    }
}
