//! What a cache should do, said as plainly as possible: a vector of entries in eviction order, searched from end to
//! end, and the rules of the documentation one after the other.
//!
//! The engine may choose which of several entries whose time is over it collects first. There the oracle follows the
//! listener's log, and checks that the choice was among those allowed and that as many were taken as should be.

use std::collections::VecDeque;

use tenfold_cache_core::{RemovalCause, StatsSnapshot};

pub(crate) const NEVER: u64 = u64::MAX;

/// Expired entries that one write collects on its way.
const COLLECTED_PER_WRITE: usize = 16;

/// A value that says how heavy it is and how long it lives, and can be told from every other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) id: u64,
    pub(crate) weight: u64,
    pub(crate) time_to_live: Option<u64>,
}

/// Key, value's id and cause, as the listener is told.
pub(crate) type Told = (u64, u64, RemovalCause);

/// How the policy orders entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Recency,
    Insertion,
    Hits,
}

/// The settings of one cache; times in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) order: Order,
    pub(crate) weighed: bool,
    /// Values say how long they live.
    pub(crate) expiry: bool,
    pub(crate) time_to_live: u64,
    pub(crate) time_to_idle: u64,
    pub(crate) grace: u64,
}

#[derive(Debug)]
struct Item {
    key: u64,
    value: Value,
    weight: u64,
    pinned: bool,
    hits: u64,
    expires_at: u64,
    accessed_at: u64,
}

/// Why an entry was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    TooHeavy,
    NoRoom,
}

#[derive(Debug)]
pub(crate) struct Oracle {
    pub(crate) settings: Settings,
    pub(crate) capacity: u64,
    pub(crate) now: u64,
    pub(crate) stats: StatsSnapshot,
    /// What the engine's listener was told in this step, still to be explained.
    pub(crate) log: VecDeque<Told>,
    items: Vec<Item>,
}

impl Oracle {
    pub(crate) fn new(settings: Settings, capacity: u64) -> Self {
        Self { settings, capacity, now: 0, stats: StatsSnapshot::default(), log: VecDeque::new(), items: Vec::new() }
    }

    // ---- what can be seen ----

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    pub(crate) fn weight(&self) -> u64 {
        self.items.iter().map(|item| item.weight).sum()
    }

    /// The entries that may be served, by key.
    pub(crate) fn contents(&self) -> Vec<(u64, Value)> {
        let fresh = self.items.iter().filter(|item| self.is_fresh(item));
        let mut contents: Vec<_> = fresh.map(|item| (item.key, item.value.clone())).collect();
        contents.sort_by_key(|&(key, _)| key);
        contents
    }

    pub(crate) fn eviction_order(&self) -> Vec<u64> {
        let mut evictable: Vec<_> = self.items.iter().filter(|item| !item.pinned).collect();
        evictable.sort_by_key(|item| self.rank(item));
        evictable.into_iter().map(|item| item.key).collect()
    }

    /// When the first entry may be collected.
    pub(crate) fn next_expiry(&self) -> Option<u64> {
        self.items.iter().map(|item| self.kept_until(item)).filter(|&until| until != NEVER).min()
    }

    pub(crate) fn peek(&self, key: u64) -> Option<Value> {
        self.fresh(key).map(|at| self.items[at].value.clone())
    }

    pub(crate) fn time_left(&self, key: u64) -> Option<u64> {
        let until = self.fresh_until(&self.items[self.fresh(key)?]);
        Some(if until == NEVER { NEVER } else { until - self.now })
    }

    /// Equal ranks leave in the order of the vector, for sorting is stable.
    fn rank(&self, item: &Item) -> u64 {
        if self.settings.order == Order::Hits { item.hits } else { 0 }
    }

    // ---- times ----

    fn fresh_until(&self, item: &Item) -> u64 {
        item.expires_at.min(item.accessed_at.saturating_add(self.settings.time_to_idle))
    }

    fn kept_until(&self, item: &Item) -> u64 {
        self.fresh_until(item).saturating_add(self.settings.grace)
    }

    fn is_fresh(&self, item: &Item) -> bool {
        self.now < self.fresh_until(item) || self.fresh_until(item) == NEVER
    }

    fn is_due(&self, item: &Item) -> bool {
        self.kept_until(item) <= self.now && self.kept_until(item) != NEVER
    }

    fn find(&self, key: u64) -> Option<usize> {
        self.items.iter().position(|item| item.key == key)
    }

    fn fresh(&self, key: u64) -> Option<usize> {
        self.find(key).filter(|&at| self.is_fresh(&self.items[at]))
    }

    fn expires_at(&self, value: &Value, own: Option<u64>) -> u64 {
        let by_value = value.time_to_live.filter(|_| self.settings.expiry);
        self.now.saturating_add(own.or(by_value).unwrap_or(self.settings.time_to_live))
    }

    fn weigh(&self, value: &Value) -> u64 {
        if self.settings.weighed { value.weight.max(1) } else { 1 }
    }

    // ---- the log ----

    fn expect(&mut self, key: u64, value: &Value, cause: RemovalCause) {
        let told = self.log.pop_front();
        assert_eq!(told, Some((key, value.id, cause)), "the listener was told otherwise");
    }

    /// The cause with which an entry leaves that a write or a removal finds there; counts it.
    fn leave(&mut self, at: usize, if_fresh: RemovalCause) -> (Item, RemovalCause) {
        let fresh = self.is_fresh(&self.items[at]);
        let item = self.items.remove(at);
        let cause = if fresh { if_fresh } else { RemovalCause::Expired };
        match cause {
            RemovalCause::Expired => self.stats.expirations += 1,
            RemovalCause::Replaced => self.stats.replacements += 1,
            _ => self.stats.removals += 1,
        }
        (item, cause)
    }

    // ---- the order ----

    fn note_hit(&mut self, at: usize) -> usize {
        if self.items[at].pinned {
            return at;
        }
        match self.settings.order {
            Order::Recency => return self.make_newest(at),
            Order::Insertion => {}
            Order::Hits => self.items[at].hits += 1,
        }
        at
    }

    fn make_newest(&mut self, at: usize) -> usize {
        let item = self.items.remove(at);
        self.items.push(item);
        self.items.len() - 1
    }

    fn victim(&self) -> Option<usize> {
        let evictable = (0..self.items.len()).filter(|&at| !self.items[at].pinned);
        evictable.min_by_key(|&at| self.rank(&self.items[at]))
    }

    /// Evicts one entry, one whose time is over if there is any; `spared` is no victim, but becomes a newcomer in its
    /// turn. False if there is none to evict.
    fn evict_one(&mut self, spared: Option<u64>) -> bool {
        if self.items.iter().any(|item| self.is_due(item)) {
            self.collect_one();
            return true;
        }
        let Some(at) = self.victim() else { return false };
        if Some(self.items[at].key) == spared {
            // Out of sight while room is made, then a newcomer.
            self.items[at].pinned = true;
            let evicted = self.evict_one(spared);
            let at = self.find(spared.unwrap()).unwrap();
            self.items[at].pinned = false;
            self.items[at].hits = 0;
            self.make_newest(at);
            return evicted;
        }
        let item = self.items.remove(at);
        self.expect(item.key, &item.value, RemovalCause::Size);
        self.stats.evictions += 1;
        self.stats.evicted_weight = self.stats.evicted_weight.saturating_add(item.weight);
        true
    }

    /// Follows the engine in its choice among the entries that are due.
    fn collect_one(&mut self) {
        let (key, id, cause) = self.log.pop_front().expect("the listener was not told of an entry that is due");
        assert_eq!(cause, RemovalCause::Expired, "{key} goes before entries whose time is over");
        let at = self.find(key).unwrap_or_else(|| panic!("{key} expired, but is not there"));
        assert!(self.is_due(&self.items[at]), "{key} was collected before its time");
        assert_eq!(self.items.remove(at).value.id, id, "the listener saw another value");
        self.stats.expirations += 1;
    }

    fn collect(&mut self, limit: usize) -> usize {
        let due = self.items.iter().filter(|item| self.is_due(item)).count().min(limit);
        (0..due).for_each(|_| self.collect_one());
        due
    }

    /// Whether room for `more` could be made.
    fn make_room(&mut self, more: u64, spared: Option<u64>) -> bool {
        while u128::from(self.weight()) + u128::from(more) > u128::from(self.capacity) {
            if !self.evict_one(spared) {
                return false;
            }
        }
        true
    }

    // ---- operations ----

    pub(crate) fn get(&mut self, key: u64) -> Option<Value> {
        let Some(at) = self.fresh(key) else {
            self.stats.misses += 1;
            return None;
        };
        self.stats.hits += 1;
        self.items[at].accessed_at = self.now;
        let at = self.note_hit(at);
        Some(self.items[at].value.clone())
    }

    /// Stores, and returns the live value that was replaced.
    pub(crate) fn store(&mut self, key: u64, value: Value, own: Option<u64>) -> Result<Option<Value>, Refusal> {
        let old = self.find(key).map(|at| (self.items[at].value.clone(), self.is_fresh(&self.items[at])));
        // The replaced value is told of first, evictions after it.
        let replaced = (old.as_ref()).map(|(old, _)| (key, old.id, RemovalCause::Replaced));
        let told = replaced.is_some() && self.log.front().copied() == replaced;
        if told {
            self.log.pop_front();
        }
        let weight = self.weigh(&value);
        if self.expires_at(&value, own) == self.now {
            self.outdate(key, told);
            self.expect(key, &value, RemovalCause::Expired);
            self.stats.expirations += 1;
            if !told {
                self.stats.insertions += 1;
            }
            return Ok(old.filter(|&(_, fresh)| fresh).map(|(old, _)| old));
        }
        if weight > self.capacity {
            self.stats.rejections += 1;
            self.outdate(key, told);
            return Err(Refusal::TooHeavy);
        }
        self.collect(COLLECTED_PER_WRITE);
        if let Some(at) = self.find(key).filter(|_| self.fresh(key).is_none()) {
            let (item, cause) = self.leave(at, RemovalCause::Replaced);
            self.expect(key, &item.value, cause);
        }
        let stored = match self.find(key) {
            None => self.store_new(key, &value, weight, own),
            Some(at) => self.store_over(at, &value, weight, own),
        };
        if !stored {
            self.stats.rejections += 1;
            self.outdate(key, told);
            return Err(Refusal::NoRoom);
        }
        let replaced = old.filter(|&(_, fresh)| fresh).map(|(old, _)| old);
        assert_eq!(told, replaced.is_some(), "the listener and the replaced value");
        Ok(replaced)
    }

    fn store_new(&mut self, key: u64, value: &Value, weight: u64, own: Option<u64>) -> bool {
        if !self.make_room(weight, None) {
            return false;
        }
        let (expires_at, accessed_at) = (self.expires_at(value, own), self.now);
        let value = value.clone();
        self.items.push(Item { key, value, weight, pinned: false, hits: 0, expires_at, accessed_at });
        self.stats.insertions += 1;
        true
    }

    fn store_over(&mut self, at: usize, value: &Value, weight: u64, own: Option<u64>) -> bool {
        let at = self.note_hit(at);
        let Item { key, weight: old_weight, .. } = self.items[at];
        if weight > old_weight && !self.make_room(weight - old_weight, Some(key)) {
            return false;
        }
        let at = self.find(key).unwrap();
        self.stats.replacements += 1;
        self.rewrite(at, value.clone(), weight, own);
        true
    }

    fn rewrite(&mut self, at: usize, value: Value, weight: u64, own: Option<u64>) {
        let expires_at = self.expires_at(&value, own);
        let accessed_at = self.now;
        let item = &mut self.items[at];
        (item.value, item.weight, item.expires_at, item.accessed_at) = (value, weight, expires_at, accessed_at);
    }

    /// Lets go of what is there under a key whose new value is not stored.
    fn outdate(&mut self, key: u64, told: bool) {
        if let Some(at) = self.find(key) {
            let (item, cause) = self.leave(at, RemovalCause::Replaced);
            if !told {
                self.expect(key, &item.value, cause);
            }
        }
    }

    /// As `store`, and the listener is told of what was refused.
    pub(crate) fn insert(&mut self, key: u64, value: Value, own: Option<u64>) -> Option<Value> {
        match self.store(key, value.clone(), own) {
            Ok(old) => old,
            Err(_) => {
                self.expect(key, &value, RemovalCause::Size);
                None
            }
        }
    }

    pub(crate) fn remove(&mut self, key: u64) -> Option<Value> {
        let (item, cause) = self.leave(self.find(key)?, RemovalCause::Explicit);
        self.expect(key, &item.value, cause);
        (cause == RemovalCause::Explicit).then_some(item.value)
    }

    /// Changes a live value in place.
    pub(crate) fn update(&mut self, key: u64, value: Value) -> bool {
        if self.get(key).is_none() {
            return false;
        }
        let at = self.find(key).unwrap();
        let (old_weight, weight) = (self.items[at].weight, self.weigh(&value));
        if weight > old_weight && (weight > self.capacity || !self.make_room(weight - old_weight, Some(key))) {
            self.stats.rejections += 1;
            let at = self.find(key).unwrap();
            self.items.remove(at);
            self.expect(key, &value, RemovalCause::Size);
            return true;
        }
        let at = self.find(key).unwrap();
        self.rewrite(at, value, weight, None);
        true
    }

    pub(crate) fn pop_victim(&mut self) -> Option<(u64, Value)> {
        self.collect(usize::MAX);
        loop {
            let (item, cause) = self.leave(self.victim()?, RemovalCause::Explicit);
            self.expect(item.key, &item.value, cause);
            if cause == RemovalCause::Explicit {
                return Some((item.key, item.value));
            }
        }
    }

    pub(crate) fn pin(&mut self, key: u64) -> bool {
        let found = self.fresh(key);
        if let Some(at) = found {
            self.items[at].pinned = true;
        }
        found.is_some()
    }

    pub(crate) fn unpin(&mut self, key: u64) -> bool {
        let found = self.fresh(key);
        if let Some(at) = found.filter(|&at| self.items[at].pinned) {
            (self.items[at].hits, self.items[at].pinned) = (0, false);
            self.make_newest(at);
        }
        // The pinned entries may have been more than a lowered capacity allows.
        self.make_room(0, None);
        found.is_some()
    }

    pub(crate) fn resize(&mut self, capacity: u64) {
        self.capacity = capacity;
        self.make_room(0, None);
    }

    pub(crate) fn clear(&mut self) {
        self.leave_in_any_order(|_, _| true);
    }

    pub(crate) fn retain(&mut self, keep: impl Fn(u64) -> bool) {
        self.leave_in_any_order(|key, fresh| fresh && !keep(key));
    }

    fn leave_in_any_order(&mut self, leaves: impl Fn(u64, bool) -> bool) {
        let mut expected = Vec::new();
        let mut at = 0;
        while at < self.items.len() {
            if leaves(self.items[at].key, self.is_fresh(&self.items[at])) {
                let (item, cause) = self.leave(at, RemovalCause::Explicit);
                expected.push((item.key, item.value.id, cause));
            } else {
                at += 1;
            }
        }
        let mut told: Vec<_> = self.log.drain(..).collect();
        told.sort_by_key(|&(key, ..)| key);
        expected.sort_by_key(|&(key, ..)| key);
        assert_eq!(told, expected, "the listener was told otherwise");
    }

    pub(crate) fn collect_expired(&mut self) -> usize {
        self.collect(usize::MAX)
    }
}
