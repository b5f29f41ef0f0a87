//! When a backend is probed next, and what the answers mean.
//!
//! A probe that a healthy backend does not answer, or a dead one does, happens: only some in a row count (`rise` and
//! `fall`). A late answer is an answer: whether a backend is slow is for requests to find. While it is open what a backend is, probes come faster. The first probe of a backend and every later one are
//! moved by a random bit, so that neither the backends of one balancer nor the balancers of one backend fall into step.

use std::time::Duration;

use super::{ProbeConfig, Verdict};
use crate::Rng;
use crate::time::{Time, nanos};

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Probe now; tell the result with [`Schedule::finished`].
    Probe,
    /// The probe under way has taken too long: its result is [`Verdict::Bad`], and is to be told.
    TimedOut,
    /// Nothing before this time.
    At(Time),
}

/// The probes of one backend.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    /// When the next probe begins.
    due: Time,
    /// When the probe under way began.
    running: Option<Time>,
    good_in_a_row: u32,
    bad_in_a_row: u32,
    verdict: Option<Verdict>,
}

impl Schedule {
    /// Of a backend that joins now: its first probe comes within the fast interval.
    pub(crate) fn new(now: Time, config: &ProbeConfig, rng: &mut Rng) -> Self {
        let wait = Duration::from_nanos(rng.below(nanos(config.fast_interval)));
        Self { due: now.after(wait), running: None, good_in_a_row: 0, bad_in_a_row: 0, verdict: None }
    }

    /// What to do now. [`Due::Probe`] begins a probe.
    pub(crate) fn poll(&mut self, now: Time, config: &ProbeConfig) -> Due {
        match self.running {
            Some(began) if now >= began.after(config.timeout) => Due::TimedOut,
            Some(began) => Due::At(began.after(config.timeout)),
            None if now >= self.due => {
                self.running = Some(now);
                Due::Probe
            }
            None => Due::At(self.due),
        }
    }

    /// When the probe under way began.
    pub(crate) fn began(&self) -> Option<Time> {
        self.running
    }

    /// Whether a probe is under way.
    pub(crate) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// A probe that was due cannot be sent now (too many are under way, or there was no descriptor for it): it is due again a
    /// little later.
    pub(crate) fn put_off(&mut self, now: Time, config: &ProbeConfig, rng: &mut Rng) {
        self.running = None;
        self.due = now.after(jittered(config.fast_interval / 4, config, rng));
    }

    /// Takes the result of a probe in, and says what it means if that is new. The next one comes fast if the backend is
    /// in question for other reasons.
    pub(crate) fn finished(
        &mut self,
        found: Verdict,
        is_urgent: bool,
        now: Time,
        config: &ProbeConfig,
        rng: &mut Rng,
    ) -> Option<Verdict> {
        let began = self.running.take().unwrap_or(now);
        (self.good_in_a_row, self.bad_in_a_row) = match found {
            Verdict::Good => (self.good_in_a_row.saturating_add(1), 0),
            Verdict::Bad => (0, self.bad_in_a_row.saturating_add(1)),
        };
        let before = self.verdict;
        if self.good_in_a_row >= config.rise {
            self.verdict = Some(Verdict::Good);
        } else if self.bad_in_a_row >= config.fall {
            self.verdict = Some(Verdict::Bad);
        }
        let is_between = match self.verdict {
            None => true,
            Some(Verdict::Good) => self.good_in_a_row == 0,
            Some(Verdict::Bad) => self.good_in_a_row > 0,
        };
        let interval = if is_urgent || is_between { config.fast_interval } else { config.interval };
        self.due = began.after(jittered(interval, config, rng)).max(now);
        self.verdict.filter(|_| self.verdict != before)
    }

    /// Asks for the next probe soon, since something is wrong.
    pub(crate) fn hurry(&mut self, now: Time, config: &ProbeConfig) {
        self.due = self.due.min(now.after(config.fast_interval));
    }

    /// Forgets what is thought, so that the next row of probes that agree is told, whatever it says.
    pub(crate) fn forget(&mut self) {
        (self.good_in_a_row, self.bad_in_a_row, self.verdict) = (0, 0, None);
    }
}

/// The interval, longer or shorter by up to the configured share.
fn jittered(interval: Duration, config: &ProbeConfig, rng: &mut Rng) -> Duration {
    let width = nanos(interval) / 100 * u64::from(config.jitter_percent);
    let offset = rng.below(2 * width + 1);
    Duration::from_nanos(nanos(interval) - width + offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::for_each_seed;

    const CONFIG: fn() -> ProbeConfig = ProbeConfig::default;

    #[test]
    fn only_results_in_a_row_count() {
        let (config, mut rng) = (CONFIG(), Rng::new(1));
        let mut schedule = Schedule::new(Time::default(), &config, &mut rng);
        let mut tell = |found| schedule.finished(found, false, Time::default(), &config, &mut rng);
        use Verdict::{Bad, Good};
        assert_eq!([Good, Bad, Good, Good].map(&mut tell), [None, None, None, Some(Good)]);
        assert_eq!([Bad, Bad, Good, Bad, Bad].map(&mut tell), [None; 5]);
        assert_eq!([Bad, Bad, Good, Good].map(&mut tell), [Some(Bad), None, None, Some(Good)]);
    }

    /// Probes are at most one at a time, keep their intervals to within the jitter, and end.
    #[test]
    fn probes_keep_their_distance() {
        for_each_seed(|seed| {
            let (config, mut rng) = (CONFIG(), Rng::new(seed));
            let mut now = Time::from_nanos(rng.below(1 << 40));
            let mut schedule = Schedule::new(now, &config, &mut rng);
            let (mut began, mut last): (Option<Time>, Option<(Time, bool)>) = (None, None);
            let mut probes = 0;
            while probes < 200 {
                match schedule.poll(now, &config) {
                    Due::At(time) => {
                        assert!(time > now);
                        let answers = began.is_some() && rng.below(4) > 0;
                        now = if answers { now.after(Duration::from_millis(rng.below(300))).min(time) } else { time };
                        if answers && now < time {
                            let found = [Verdict::Good, Verdict::Bad][rng.below(2) as usize];
                            let urgent = rng.below(2) == 0;
                            schedule.finished(found, urgent, now, &config, &mut rng);
                            last = Some((began.take().unwrap(), urgent));
                        }
                    }
                    Due::TimedOut => {
                        assert_eq!(now.since(began.unwrap()), config.timeout);
                        schedule.finished(Verdict::Bad, false, now, &config, &mut rng);
                        last = Some((began.take().unwrap(), false));
                    }
                    Due::Probe => {
                        assert_eq!(began, None, "one at a time");
                        if let Some((last, _)) = last {
                            let gap = now.since(last);
                            let fast =
                                config.fast_interval * 9 / 10..=config.fast_interval.max(config.timeout) * 11 / 10;
                            let calm = config.interval * 9 / 10..=config.interval * 11 / 10;
                            assert!(fast.contains(&gap) || calm.contains(&gap), "{gap:?}");
                        }
                        began = Some(now);
                        probes += 1;
                    }
                }
            }
        });
    }
}
