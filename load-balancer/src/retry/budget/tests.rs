use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{BudgetConfig, RetryBudget, SLOTS};
use crate::rng::Rng;
use crate::testing::for_each_seed;

fn budget(config: BudgetConfig) -> (RetryBudget, Instant) {
    let start = crate::clock::now();
    (RetryBudget::new(&config, start).unwrap(), start)
}

/// Pays as much as there is at `now` and says how much that was.
fn drain(budget: &RetryBudget, now: Instant) -> u64 {
    (0..100_000).take_while(|_| budget.withdraw(now)).count() as u64
}

/// Every deposit and payment with its slot: B1, recounted for each payment.
struct Oracle {
    config: BudgetConfig,
    earned: Vec<u64>,
    spent: Vec<u64>,
}

impl Oracle {
    fn withdraw(&mut self, slot: u64) -> bool {
        let is_paid = self.affords(slot, 10, 1);
        self.spent.extend(is_paid.then_some(slot));
        is_paid
    }

    fn withdraw_spare(&mut self, slot: u64) -> bool {
        let is_paid = self.affords(slot, 10, 1) && self.affords(slot, 2, 2);
        self.spent.extend(is_paid.then_some(slot));
        is_paid
    }

    fn affords(&self, slot: u64, slots: u64, parts: u64) -> bool {
        let live = |events: &[u64]| events.iter().filter(|&&event| event + slots > slot).count() as u64;
        let reserve = u64::from(self.config.min_per_second) * self.config.time_to_live.as_secs() * 100;
        let limit = u64::from(self.config.percent) * live(&self.earned) + reserve * slots / 10;
        parts * 100 * (live(&self.spent) + 1) <= limit
    }
}

#[test]
fn pays_exactly_what_the_oracle_pays() {
    for_each_seed(|seed| {
        let mut rng = Rng::new(seed);
        let config = BudgetConfig {
            percent: rng.below(150) as u32,
            min_per_second: rng.below(4) as u32,
            time_to_live: Duration::from_secs(1 + rng.below(12)),
        };
        let (budget, start) = budget(config.clone());
        let slot_ms = config.time_to_live.as_millis() as u64 / u64::from(SLOTS);
        let mut oracle = Oracle { config, earned: vec![], spent: vec![] };
        let mut now_ms = 0;
        for _ in 0..4_000 {
            // Half a millisecond past, so that rounding at the edge of a slot does not matter.
            let now = start + Duration::from_millis(now_ms) + Duration::from_micros(500);
            match rng.below(20) {
                0..=10 => {
                    budget.deposit(now);
                    oracle.earned.push(now_ms / slot_ms);
                }
                11..=14 => assert_eq!(budget.withdraw(now), oracle.withdraw(now_ms / slot_ms), "at {now_ms} ms"),
                15..=17 => {
                    assert_eq!(budget.withdraw_spare(now), oracle.withdraw_spare(now_ms / slot_ms), "at {now_ms} ms")
                }
                18 => now_ms += rng.below(slot_ms * 2),
                _ if rng.below(10) == 0 => now_ms += rng.below(slot_ms * 40),
                _ => {}
            }
        }
    });
}

#[test]
fn a_fresh_budget_pays_its_reserve_and_no_more() {
    let (budget, start) = budget(BudgetConfig::default());
    assert_eq!(drain(&budget, start), 100);
    assert_eq!(drain(&budget, start + Duration::from_millis(8_900)), 0);
    assert_eq!(drain(&budget, start + Duration::from_millis(10_100)), 100);
}

#[test]
fn credits_expire() {
    let (budget, start) = budget(BudgetConfig { min_per_second: 0, ..BudgetConfig::default() });
    (0..1_000).for_each(|_| budget.deposit(start));
    assert!(budget.withdraw(start + Duration::from_millis(9_900)));
    assert!(!budget.withdraw(start + Duration::from_millis(10_100)));
}

#[test]
fn a_fifth_of_the_successes_is_paid() {
    let (budget, start) = budget(BudgetConfig { min_per_second: 0, ..BudgetConfig::default() });
    (0..1_000).for_each(|_| budget.deposit(start));
    assert_eq!(drain(&budget, start), 200);
}

#[test]
fn hedges_get_half_of_the_last_slots_and_leave_the_rest_to_retries() {
    let (budget, start) = budget(BudgetConfig::default());
    let at = |seconds: u64| start + Duration::from_millis(seconds * 1_000 + 500);
    (0..9).for_each(|second| (0..1_000).for_each(|_| budget.deposit(at(second))));
    // Two slots: 2,000 successes and a reserve of 20.
    assert_eq!((0..10_000).take_while(|_| budget.withdraw_spare(at(8))).count(), 210);
    // All nine, and a reserve of 100.
    assert_eq!(drain(&budget, at(8)), 1_900 - 210);
    assert!(!budget.withdraw_spare(at(9)));
}

#[test]
fn time_that_stands_far_behind_neither_earns_nor_pays() {
    let (budget, start) = budget(BudgetConfig::default());
    let later = start + Duration::from_millis(16_500);
    budget.deposit(later);
    assert!(budget.withdraw(later));
    budget.deposit(start);
    assert!(!budget.withdraw(start), "its slot belongs to a later time");
}

#[test]
fn threads_that_race_for_the_last_credits_never_overdraw() {
    let (budget, start) = budget(BudgetConfig { min_per_second: 0, ..BudgetConfig::default() });
    let paid = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (budget, paid) = (&budget, &paid);
            scope.spawn(move || {
                for step in 0..5_000_u64 {
                    // All within one time to live, in slots that differ between threads.
                    let now = start + Duration::from_millis((step + thread * 700) % 8_000);
                    budget.deposit(now);
                    if budget.withdraw(now) {
                        paid.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let paid = paid.load(Ordering::Relaxed);
    assert!((1..=4_000).contains(&paid), "{paid} of 20,000 x 20 %");
}

#[test]
fn settings_out_of_range_are_refused() {
    let default = BudgetConfig::default;
    for (config, field) in [
        (BudgetConfig { percent: 1_001, ..default() }, "budget.percent"),
        (BudgetConfig { min_per_second: 1_000_001, ..default() }, "budget.min_per_second"),
        (BudgetConfig { time_to_live: Duration::from_millis(999), ..default() }, "budget.time_to_live"),
        (BudgetConfig { time_to_live: Duration::MAX, ..default() }, "budget.time_to_live"),
    ] {
        let refused = RetryBudget::new(&config, crate::clock::now()).unwrap_err();
        assert_eq!(refused.field(), field);
    }
}
