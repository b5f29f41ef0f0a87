//! From signs to events: the comparison of a backend with the others of its pool, and what follows for its machine.
//!
//! Runs behind the control lock, over the list of members; only what is looked at in every member is O(members).

use super::{Canary, Event, Fitness, Group, MAX_PEERS, Machine, Norm, Rules, Sign, Step, Vitals, is_outlier};
use crate::health::HealthState;
use crate::time::Time;

/// A member of a pool, as health sees it.
pub(crate) trait Watched {
    /// Its measurements.
    fn vitals(&self) -> &Vitals;
    /// Its state.
    fn machine(&self) -> &Machine;
    /// Its state, to be changed.
    fn machine_mut(&mut self) -> &mut Machine;
    /// Those of one priority are compared with each other; `None` for one that takes no part (it leaves).
    fn group(&self) -> Option<u8>;
}

/// What members are judged by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Court<'a> {
    pub(crate) norm: &'a Norm,
    pub(crate) rules: &'a Rules,
    pub(crate) now: Time,
}

impl Court<'_> {
    /// Follows a sign that member `at` gave.
    pub(crate) fn judge<M: Watched>(&self, members: &mut [M], at: usize, sign: Sign) -> Step {
        // Trouble gives signs by itself; asking at all the others would cost O(members) for nothing.
        let amnesty = if matches!(sign, Sign::Suspect(_)) { self.amnesty(members) } else { Step::default() };
        self.follow(members, at, sign).and(amnesty)
    }

    fn follow<M: Watched>(&self, members: &mut [M], at: usize, sign: Sign) -> Step {
        match sign {
            Sign::Fine => Step::default(),
            Sign::Refused => self.tell(&mut members[at], Event::Refused),
            Sign::Refresh => {
                self.refresh(members);
                self.calm(&mut members[at])
            }
            Sign::Suspect(_) if !self.serves(&members[at]) => Step::default(),
            Sign::Suspect(suspicion) => {
                self.refresh(members);
                let peers = self.peers(members, at);
                if !self.norm.is_quiet(self.now)
                    && is_outlier(suspicion, members[at].vitals(), &peers, self.norm, self.now)
                {
                    let group = self.group(members, at);
                    let step = self.tell(&mut members[at], Event::Outlier(group));
                    members[at].vitals().doubt();
                    step
                } else {
                    members[at].vitals().doubt();
                    Step::default()
                }
            }
        }
    }

    /// Tells a member's machine what happened, and its measurements what follows.
    pub(crate) fn tell<M: Watched>(&self, member: &mut M, event: Event) -> Step {
        let before = self.fitness(member);
        let step = member.machine_mut().on(event, self.now, self.rules);
        let after = self.fitness(member);
        let vitals = member.vitals();
        match (before, after) {
            (Fitness::Fit { .. }, Fitness::Fit { percent: 100 }) if event == Event::Time => vitals.trust(),
            (Fitness::Fit { .. }, Fitness::Fit { .. }) => {}
            (_, Fitness::Fit { percent }) => vitals.begin_anew(percent < 100),
            _ => {}
        }
        let is_on_trial = matches!(after, Fitness::OnTrial { .. });
        if is_on_trial && before != after || matches!(event, Event::Canary(_)) {
            vitals.trial().offer(is_on_trial, self.now);
        }
        step
    }

    /// Lets time pass for all members; returns what follows together.
    pub(crate) fn tick<M: Watched>(&self, members: &mut [M], canary_timeout: std::time::Duration) -> Step {
        self.refresh(members);
        let mut together = self.amnesty(members);
        for member in members {
            let is_lost = member.vitals().trial().began().is_some_and(|began| self.now.since(began) >= canary_timeout);
            let steps = [
                if is_lost { self.tell(member, Event::Canary(Canary::Bad)) } else { Step::default() },
                self.calm(member),
                self.tell(member, Event::Time),
            ];
            together = steps.into_iter().fold(together, Step::and);
            let lost_at = member.vitals().trial().began().map(|began| began.after(canary_timeout));
            together = together.and(Step { publish: false, wake_at: lost_at });
        }
        together
    }

    /// Takes back those who were ejected by suspicion, where most of those who are left are in trouble themselves.
    fn amnesty<M: Watched>(&self, members: &mut [M]) -> Step {
        let is_ejected = |member: &M| match self.fitness(member) {
            Fitness::Ejected | Fitness::OnTrial { was_down: false } => member.group().is_some(),
            _ => false,
        };
        let groups: Vec<_> = members.iter().filter(|member| is_ejected(member)).map(Watched::group).collect();
        if !groups.iter().any(|&group| self.is_in_trouble(members, group)) {
            return Step::default();
        }
        self.norm.keep_quiet(self.now);
        let ejected = members.iter_mut().filter(|member| is_ejected(member));
        ejected.map(|member| self.tell(member, Event::Amnesty)).fold(Step::default(), Step::and)
    }

    /// Whether most members of a group that serve fail often, or are half suspects for being slow.
    fn is_in_trouble<M: Watched>(&self, members: &[M], group: Option<u8>) -> bool {
        let serving: Vec<_> = members.iter().filter(|member| member.group() == group && self.serves(*member)).collect();
        let (mut all, mut bad) = (0, 0);
        for member in sample(&serving) {
            all += 1;
            bad += usize::from(member.vitals().is_bad(self.norm, self.now));
        }
        2 * bad > all
    }

    fn calm<M: Watched>(&self, member: &mut M) -> Step {
        let is_open = matches!(member.machine().state(), HealthState::Unknown | HealthState::Suspect);
        let vitals = member.vitals();
        let is_calm = is_open && vitals.is_calm(self.norm) && vitals.last_fast() > Time::default();
        if is_calm { self.tell(member, Event::Calm) } else { Step::default() }
    }

    fn refresh<M: Watched>(&self, members: &[M]) {
        if self.norm.is_stale(self.now) {
            self.norm.refresh(sample(members).map(Watched::vitals), self.now);
        }
    }

    fn fitness<M: Watched>(&self, member: &M) -> Fitness {
        member.machine().fitness(self.now, self.rules)
    }

    fn serves<M: Watched>(&self, member: &M) -> bool {
        matches!(self.fitness(member), Fitness::Fit { .. })
    }

    fn peers<'a, M: Watched>(&self, members: &'a [M], at: usize) -> Vec<&'a Vitals> {
        let is_peer = |other: &&M| {
            !std::ptr::eq(*other, &members[at]) && other.group() == members[at].group() && self.serves(*other)
        };
        let peers: Vec<_> = members.iter().filter(is_peer).map(Watched::vitals).collect();
        sample(&peers).copied().collect()
    }

    fn group<M: Watched>(&self, members: &[M], at: usize) -> Group {
        let (mut counts, own) = (Group::default(), members[at].group());
        for (other, member) in members.iter().enumerate().filter(|(_, member)| own.is_some() && member.group() == own) {
            let fitness = self.fitness(member);
            counts.up += usize::from(!fitness.is_down());
            counts.ejected += usize::from(!fitness.is_down() && !matches!(fitness, Fitness::Fit { .. }));
            let is_missed = other != at && member.machine().is_missed(self.norm.limits.window, self.now);
            counts.missed += usize::from(is_missed);
        }
        counts
    }
}

/// Some of the members, evenly spread, at most [`MAX_PEERS`].
fn sample<M>(members: &[M]) -> impl Iterator<Item = &M> {
    members.iter().step_by(members.len().div_ceil(MAX_PEERS).max(1))
}

impl Step {
    /// Both steps in one.
    pub(crate) fn and(self, other: Self) -> Self {
        let wake_at = match (self.wake_at, other.wake_at) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Self { publish: self.publish || other.publish, wake_at }
    }
}
