//! One run of one scenario against one proxy: the load on a thread of its own, and beside it the director, who breaks and
//! mends the backends and watches what the proxy says of them.

use std::io;
use std::thread;
use std::time::Duration;

use super::cost::Cost;
use super::fleet::{COUNT, Fleet};
use super::load::{self, Epoch};
use super::proxy::Proxy;
use super::sample::Sample;
use super::scenario::{Action, Scenario};
use super::schedule::Timeline;
use crate::clock;

/// Requests a second of the open load.
pub const RATE_PER_S: u32 = 1_000;

/// How often the director looks.
const LOOK: Duration = Duration::from_millis(10);

/// All that was seen. Every moment counts from the start of the load.
#[derive(Clone, Debug)]
pub struct Record {
    /// What was done.
    pub scenario: Scenario,
    /// When.
    pub timeline: Timeline,
    /// One for each request.
    pub samples: Vec<Sample>,
    /// What each backend has of its own; less than all, if it was started again.
    pub arrivals: [Vec<Duration>; COUNT],
    /// When the proxy was seen to have changed which backends it sends requests to.
    pub rotations: Vec<(Duration, [bool; COUNT])>,
    /// What it cost whom.
    pub cost: Cost,
}

/// Runs a scenario with an open load. Without a proxy the load goes to the first backend.
///
/// # Errors
///
/// What the load, the backends or the proxy gave.
pub fn run(scenario: Scenario, timeline: Timeline, fleet: &mut Fleet, proxy: Option<&mut Proxy>) -> io::Result<Record> {
    let target = proxy.as_ref().map_or(fleet.addresses()[0], |proxy| proxy.address());
    let epoch = Epoch::default();
    let before = Cost::so_far(fleet, proxy.as_deref())?;
    let mut director = Director { fleet, proxy, rotations: Vec::new() };
    let (samples, directed) = thread::scope(|scope| {
        let load = scope.spawn(|| load::open(target, RATE_PER_S, timeline.end, &epoch));
        let directed = director.direct(scenario.actions(&timeline), timeline.end, &epoch);
        (load.join(), directed)
    });
    let samples = samples.map_err(|_| io::Error::other("the load panicked"))??;
    directed?;
    let cost = Cost::so_far(director.fleet, director.proxy.as_deref())?.since(&before);
    let begin = epoch.get().unwrap_or_default();
    let mut arrivals = [const { Vec::new() }; COUNT];
    for (index, arrivals) in arrivals.iter_mut().enumerate() {
        // Those of the check before the load are none of it.
        *arrivals = director.fleet.arrivals(index)?.iter().filter_map(|at| at.checked_sub(begin)).collect();
    }
    let rotations = director.rotations.iter().map(|(at, rotation)| (at.saturating_sub(begin), *rotation)).collect();
    Ok(Record { scenario, timeline, samples, arrivals, rotations, cost })
}

struct Director<'a> {
    fleet: &'a mut Fleet,
    proxy: Option<&'a mut Proxy>,
    rotations: Vec<(Duration, [bool; COUNT])>,
}

impl Director<'_> {
    /// Does everything at its time, and looks at the proxy meanwhile, until `end`.
    fn direct(&mut self, actions: Vec<(Duration, Action)>, end: Duration, epoch: &Epoch) -> io::Result<()> {
        let mut actions = actions.into_iter().peekable();
        loop {
            thread::sleep(LOOK);
            let now = epoch.get().map_or(Duration::ZERO, |begin| clock::uptime() - begin);
            while let Some((_, action)) = actions.next_if(|(at, _)| *at <= now) {
                self.act(action)?;
            }
            self.look();
            if now > end {
                return Ok(());
            }
        }
    }

    fn act(&mut self, action: Action) -> io::Result<()> {
        match action {
            Action::Kill(index) => self.fleet.kill(index),
            Action::Restart(index) => self.fleet.restart(index),
            Action::Signal(index, signal) => self.fleet.signal(index, signal),
            Action::Set(index, fault) => self.fleet.set_fault(index, fault),
            Action::Replace(index) => self.replace(index),
        }
    }

    fn replace(&mut self, index: usize) -> io::Result<()> {
        if let Some(proxy) = &mut self.proxy {
            proxy.drain(index)?;
        }
        self.look();
        self.fleet.kill(index)?;
        self.fleet.restart(index)?;
        if let Some(proxy) = &mut self.proxy {
            proxy.admit(index)?;
        }
        Ok(())
    }

    /// Notes what the proxy says. One that does not answer in time is looked at again; one that is gone shows in the load.
    fn look(&mut self) {
        let Some(states) = self.proxy.as_ref().and_then(|proxy| proxy.states().ok().flatten()) else { return };
        let rotation = std::array::from_fn(|index| states.get(index).is_some_and(|state| state.is_in_rotation));
        if self.rotations.last().is_none_or(|(_, last)| *last != rotation) {
            self.rotations.push((clock::uptime(), rotation));
        }
    }
}
