use tenfold_cache_core::testing::{Oracle, check_against_oracle, check_cost, check_policy, for_each_seed};
use tenfold_cache_core::{Newcomer, Policy, Slot};

use super::Lfu;
use crate::Ageing;

const ANY: Newcomer = Newcomer::new(0);

/// LFU as its documentation has it: a count and a time of last use for each entry, sorted when asked.
#[derive(Default)]
struct Counts {
    entries: Vec<Entry>,
    ageing: Option<Ageing>,
    age: u64,
    uses: u64,
}

struct Entry {
    slot: Slot,
    count: u64,
    last_use: u64,
}

impl Counts {
    fn aged(ageing: Ageing) -> Self {
        Self { ageing: Some(ageing), ..Self::default() }
    }

    fn now(&mut self) -> u64 {
        self.uses += 1;
        self.uses
    }
}

impl Oracle for Counts {
    fn insert(&mut self, slot: Slot, _: Newcomer) {
        let (count, last_use) = (self.age + 1, self.now());
        self.entries.push(Entry { slot, count, last_use });
    }

    fn hit(&mut self, slot: Slot) {
        let now = self.now();
        let entry = self.entries.iter_mut().find(|entry| entry.slot == slot).unwrap();
        entry.last_use = now;
        entry.count = match &self.ageing {
            None => entry.count + 1,
            Some(Ageing { hit_worth, max_lead }) => {
                (entry.count + u64::from(*hit_worth)).min(self.age + u64::from(*max_lead))
            }
        };
    }

    fn remove(&mut self, slot: Slot) {
        let was_next_victim = self.order().first() == Some(&slot);
        let at = self.entries.iter().position(|entry| entry.slot == slot).unwrap();
        let entry = self.entries.remove(at);
        if was_next_victim && self.ageing.is_some() {
            self.age = entry.count;
        }
    }

    fn clear(&mut self) {
        self.entries.clear();
        self.age = 0;
    }

    fn order(&self) -> Vec<Slot> {
        let mut entries: Vec<&Entry> = self.entries.iter().collect();
        entries.sort_by_key(|entry| (entry.count, entry.last_use));
        entries.into_iter().map(|entry| entry.slot).collect()
    }
}

/// Recency alone.
#[derive(Default)]
struct Recency(Vec<Slot>);

impl Oracle for Recency {
    fn insert(&mut self, slot: Slot, _: Newcomer) {
        self.0.push(slot);
    }

    fn hit(&mut self, slot: Slot) {
        self.remove(slot);
        self.0.push(slot);
    }

    fn remove(&mut self, slot: Slot) {
        self.0.retain(|&other| other != slot);
    }

    fn clear(&mut self) {
        self.0.clear();
    }

    fn order(&self) -> Vec<Slot> {
        self.0.clone()
    }
}

/// The default, no bound to speak of, and odd ones in between.
fn ageings() -> [Ageing; 5] {
    let ageing = Ageing::default();
    [
        ageing.clone(),
        ageing.clone().hit_worth(1).max_lead(u32::MAX),
        ageing.clone().hit_worth(1).max_lead(2),
        ageing.clone().hit_worth(5).max_lead(12),
        ageing.hit_worth(255).max_lead(1_000),
    ]
}

#[test]
fn exact_lfu_keeps_the_laws_and_agrees_with_its_oracle() {
    for_each_seed(|seed| {
        check_policy(Lfu::new, seed);
        check_against_oracle(Lfu::new(), Counts::default(), seed);
    });
}

#[test]
fn aged_lfu_keeps_the_laws_and_agrees_with_its_oracle() {
    let some = if cfg!(miri) { 2 } else { usize::MAX };
    for ageing in ageings().into_iter().take(some) {
        for_each_seed(|seed| {
            check_policy(|| Lfu::aged(ageing.clone()), seed);
            check_against_oracle(Lfu::aged(ageing.clone()), Counts::aged(ageing.clone()), seed);
        });
    }
}

#[test]
fn a_lead_of_one_is_lru() {
    for lead in [0, 1] {
        let ageing = Ageing::default().max_lead(lead);
        for_each_seed(|seed| check_against_oracle(Lfu::aged(ageing.clone()), Recency::default(), seed));
    }
}

#[test]
fn a_large_instance_takes_no_longer_a_call() {
    check_cost(Lfu::new, 1);
    check_cost(|| Lfu::aged(Ageing::default()), 1);
}

#[test]
fn exact_lfu_never_forgets_and_aged_lfu_does() {
    let survives = |mut lfu: Lfu| {
        let favourite = Slot::new(0);
        lfu.insert(favourite, ANY);
        (0..1_000).for_each(|_| lfu.hit(favourite));
        (1..4).for_each(|index| lfu.insert(Slot::new(index), ANY));
        // A hundred newcomers, none of them used again.
        for _ in 0..100 {
            let victim = lfu.victim().unwrap();
            lfu.remove(victim);
            lfu.insert(victim, ANY);
            lfu.check_invariants();
            if victim == favourite {
                return false;
            }
        }
        true
    };
    assert!(survives(Lfu::new()));
    assert!(!survives(Lfu::aged(Ageing::default())));
}

#[test]
fn ageing_bounds_the_number_of_buckets() {
    let lead = 16;
    let mut lfu = Lfu::aged(Ageing::default().hit_worth(1).max_lead(lead));
    (0..200).for_each(|index| lfu.insert(Slot::new(index), ANY));
    for index in 0..200 {
        (0..index).for_each(|_| lfu.hit(Slot::new(index)));
    }
    lfu.check_invariants();
    assert!(lfu.made <= lead + 1, "{} buckets", lfu.made);
}

#[test]
fn buckets_are_used_again() {
    let mut lfu = Lfu::new();
    lfu.insert(Slot::new(0), ANY);
    lfu.insert(Slot::new(1), ANY);
    for _ in 0..1_000 {
        lfu.hit(Slot::new(0));
        lfu.hit(Slot::new(1));
    }
    assert!(lfu.made <= 3, "{} buckets for two entries", lfu.made);
}

#[test]
fn counts_saturate() {
    let mut lfu = Lfu::new();
    lfu.insert(Slot::new(0), ANY);
    lfu.insert(Slot::new(1), ANY);
    lfu.hit(Slot::new(0));
    let bucket = lfu.bucket_of(Slot::new(0));
    lfu.buckets.data_mut(bucket).count = u64::MAX;
    lfu.hit(Slot::new(0));
    lfu.check_invariants();
    assert_eq!(lfu.order(), [Slot::new(1), Slot::new(0)]);
}
