//! What is done to the backends, and when.

use std::str::FromStr;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::backend::Fault;
use super::fleet::COUNT;
use super::schedule::Timeline;

/// The backend that most faults befall.
pub const VICTIM: usize = 1;

/// A kind of run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// As many requests as go through, without a fault.
    Throughput,
    /// The open load without a fault: what is normal.
    Calm,
    /// `kill -9` of a backend, which is started again when it is healed.
    Kill,
    /// SIGSTOP: connections are accepted by the kernel, and nothing answers; SIGCONT heals.
    Hang,
    /// Every answer of a backend is 200 ms late, while its health path is not.
    Grey,
    /// Half of a backend's answers are 500.
    Errors,
    /// Each backend in turn is drained through the proxy, killed, started and admitted again.
    Rolling,
    /// Every answer of every backend is 503.
    AllFailing,
}

/// A name that stands for no scenario.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no scenario is called `{name}`; there are throughput, calm, kill, hang, grey, errors, rolling, all-failing")]
pub struct UnknownScenario {
    name: String,
}

/// One thing done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// `kill -9`.
    Kill(usize),
    /// Start again.
    Restart(usize),
    /// Send a signal.
    Signal(usize, Signal),
    /// Answer otherwise.
    Set(usize, Fault),
    /// Drain, kill, start again, admit.
    Replace(usize),
}

impl Scenario {
    /// All, in the order in which they are run.
    pub const ALL: [Self; 8] = [
        Self::Throughput,
        Self::Calm,
        Self::Kill,
        Self::Hang,
        Self::Grey,
        Self::Errors,
        Self::Rolling,
        Self::AllFailing,
    ];

    /// The name on the command line and in rows.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Throughput => "throughput",
            Self::Calm => "calm",
            Self::Kill => "kill",
            Self::Hang => "hang",
            Self::Grey => "grey",
            Self::Errors => "errors",
            Self::Rolling => "rolling",
            Self::AllFailing => "all-failing",
        }
    }

    /// Whether it can be run without a proxy.
    #[must_use]
    pub fn is_faultless(self) -> bool {
        matches!(self, Self::Throughput | Self::Calm)
    }

    /// Whether a backend is started again within it and so forgets which requests it had.
    #[must_use]
    pub fn loses_records(self) -> bool {
        matches!(self, Self::Kill | Self::Rolling)
    }

    /// What is done when, in order.
    #[must_use]
    pub fn actions(self, timeline: &Timeline) -> Vec<(Duration, Action)> {
        let around = |begin, end| vec![(timeline.fault, begin), (timeline.heal, end)];
        let on_all = |fault| (0..COUNT).map(move |index| Action::Set(index, fault));
        match self {
            Self::Throughput | Self::Calm => vec![],
            Self::Kill => around(Action::Kill(VICTIM), Action::Restart(VICTIM)),
            Self::Hang => around(Action::Signal(VICTIM, Signal::SIGSTOP), Action::Signal(VICTIM, Signal::SIGCONT)),
            Self::Grey => around(Action::Set(VICTIM, GREY), Action::Set(VICTIM, Fault::NONE)),
            Self::Errors => around(Action::Set(VICTIM, HALF_ERRORS), Action::Set(VICTIM, Fault::NONE)),
            Self::Rolling => {
                let gap = (timeline.heal - timeline.fault) / COUNT as u32;
                (0..COUNT).map(|index| (timeline.fault + gap * index as u32, Action::Replace(index))).collect()
            }
            Self::AllFailing => {
                let begin = on_all(ALL_ERRORS).map(|action| (timeline.fault, action));
                begin.chain(on_all(Fault::NONE).map(|action| (timeline.heal, action))).collect()
            }
        }
    }
}

const GREY: Fault = Fault { delay: Duration::from_millis(200), ..Fault::NONE };
const HALF_ERRORS: Fault = Fault { error_percent: 50, status: 500, ..Fault::NONE };
const ALL_ERRORS: Fault = Fault { error_percent: 100, status: 503, ..Fault::NONE };

impl FromStr for Scenario {
    type Err = UnknownScenario;

    fn from_str(name: &str) -> Result<Self, UnknownScenario> {
        let found = Self::ALL.into_iter().find(|scenario| scenario.name() == name);
        found.ok_or_else(|| UnknownScenario { name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_back() {
        for scenario in Scenario::ALL {
            assert_eq!(scenario.name().parse(), Ok(scenario));
        }
        assert!("fire".parse::<Scenario>().unwrap_err().to_string().contains("`fire`"));
    }

    #[test]
    fn what_is_broken_is_mended() {
        for timeline in [Timeline::FULL, Timeline::QUICK] {
            for scenario in Scenario::ALL {
                let actions = scenario.actions(&timeline);
                assert_eq!(actions.is_empty(), scenario.is_faultless());
                assert!(actions.is_sorted_by_key(|(at, _)| *at));
                assert!(actions.iter().all(|(at, _)| *at >= timeline.fault && *at <= timeline.heal));
                let count = |wanted: fn(&Action) -> bool| actions.iter().filter(|(_, action)| wanted(action)).count();
                assert_eq!(count(|a| matches!(a, Action::Kill(_))), count(|a| matches!(a, Action::Restart(_))));
                let mended = count(|a| matches!(a, Action::Set(_, Fault::NONE)));
                assert_eq!(count(|a| matches!(a, Action::Set(..))), 2 * mended);
            }
        }
    }

    #[test]
    fn every_backend_is_replaced_once() {
        let actions = Scenario::Rolling.actions(&Timeline::FULL);
        assert_eq!(actions.iter().map(|(_, action)| *action).collect::<Vec<_>>(), [0, 1, 2].map(Action::Replace));
        assert!(actions.windows(2).all(|pair| pair[1].0 - pair[0].0 > Duration::from_secs(1)));
    }
}
