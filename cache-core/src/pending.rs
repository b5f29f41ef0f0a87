//! Values on their way in: loads in progress and leases, by key.

use std::borrow::Borrow;
use std::collections::VecDeque;

use hashbrown::HashTable;

use crate::flight::Flight;
use crate::lease::LeaseId;
use crate::sync::Arc;

/// Who is bringing a value.
pub(crate) enum Pending<V> {
    /// A load that readers of a missing key wait for.
    Load(Arc<Flight<V>>),
    /// A reader that has promised to fill.
    Lease {
        id: LeaseId,
        /// Nanoseconds on the cache's timeline.
        expires_at: u64,
    },
}

struct Expected<K, V> {
    key: K,
    hash: u64,
    pending: Pending<V>,
}

/// # Invariants
/// - **P1** A key is pending at most once.
/// - **P2** At most `max_leases` leases are outstanding, and each has its place in `lease_queue`, in the order in
///   which they were granted and so in which they expire.
pub(crate) struct PendingTable<K, V> {
    table: HashTable<Expected<K, V>>,
    lease_queue: VecDeque<(u64, LeaseId)>,
    leases: usize,
}

impl<K: Eq, V> PendingTable<K, V> {
    pub(crate) const fn new() -> Self {
        Self { table: HashTable::new(), lease_queue: VecDeque::new(), leases: 0 }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    pub(crate) fn get<Q: Eq + ?Sized>(&self, hash: u64, key: &Q) -> Option<&Pending<V>>
    where
        K: Borrow<Q>,
    {
        let found = self.table.find(hash, |e| e.key.borrow() == key);
        found.map(|expected| &expected.pending)
    }

    /// The load in progress for this key.
    pub(crate) fn load<Q: Eq + ?Sized>(&self, hash: u64, key: &Q) -> Option<&Arc<Flight<V>>>
    where
        K: Borrow<Q>,
    {
        match self.get(hash, key) {
            Some(Pending::Load(flight)) => Some(flight),
            _ => None,
        }
    }

    /// Puts a load in the place of whatever was pending.
    pub(crate) fn start(&mut self, hash: u64, key: K, flight: Arc<Flight<V>>) {
        drop(self.void(hash, &key));
        let expected = Expected { key, hash, pending: Pending::Load(flight) };
        self.table.insert_unique(hash, expected, |e| e.hash);
    }

    /// Grants a lease on a key that is not pending, unless there are too many. Keys that are not needed any more go
    /// to `dropped`, to be dropped outside the lock.
    pub(crate) fn grant(
        &mut self,
        hash: u64,
        key: K,
        id: LeaseId,
        (now, expires_at): (u64, u64),
        max_leases: usize,
        dropped: &mut Vec<K>,
    ) -> bool {
        self.drop_expired_leases(now, dropped);
        if self.leases >= max_leases {
            dropped.push(key);
            return false;
        }
        let expected = Expected { key, hash, pending: Pending::Lease { id, expires_at } };
        self.table.insert_unique(hash, expected, |e| e.hash);
        self.lease_queue.push_back((hash, id));
        self.leases += 1;
        true
    }

    fn drop_expired_leases(&mut self, now: u64, dropped: &mut Vec<K>) {
        while let Some(&(hash, id)) = self.lease_queue.front() {
            let is_it = |e: &Expected<K, V>| matches!(e.pending, Pending::Lease { id: i, .. } if i == id);
            match self.table.find(hash, is_it).map(|e| &e.pending) {
                Some(&Pending::Lease { expires_at, .. }) if now < expires_at => return,
                Some(_) => {
                    if let Ok(found) = self.table.find_entry(hash, is_it) {
                        dropped.push(found.remove().0.key);
                        self.leases -= 1;
                    }
                }
                None => {}
            }
            self.lease_queue.pop_front();
        }
    }

    /// Ends whatever is pending for the key: a fill or a load that comes later will not be stored. What is returned
    /// is to be dropped outside the lock.
    #[inline]
    pub(crate) fn void<Q: Eq + ?Sized>(&mut self, hash: u64, key: &Q) -> Option<(K, Pending<V>)>
    where
        K: Borrow<Q>,
    {
        if self.table.is_empty() {
            return None;
        }
        let found = self.table.find_entry(hash, |e| e.key.borrow() == key);
        let expected = found.ok()?.remove().0;
        if matches!(expected.pending, Pending::Lease { .. }) {
            self.leases -= 1;
            self.trim_queue();
        }
        Some((expected.key, expected.pending))
    }

    /// Drops places of voided leases once they outnumber the live ones, so that the queue stays bounded.
    fn trim_queue(&mut self) {
        if self.lease_queue.len() > 2 * self.leases + 16 {
            let table = &self.table;
            self.lease_queue.retain(|&(hash, id)| {
                let is_it = |e: &Expected<K, V>| matches!(e.pending, Pending::Lease { id: i, .. } if i == id);
                table.find(hash, is_it).is_some()
            });
        }
    }

    /// Ends everything that is pending. What is returned is to be dropped outside the lock.
    pub(crate) fn clear(&mut self) -> Self {
        std::mem::replace(self, Self::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(id: u64) -> LeaseId {
        LeaseId::from_u64(id)
    }

    #[test]
    fn leases_are_bounded_and_expire_in_order() {
        let mut table: PendingTable<u64, ()> = PendingTable::new();
        assert!(table.grant(1, 1, lease(1), (0, 10), 2, &mut Vec::new()));
        assert!(table.grant(2, 2, lease(2), (5, 15), 2, &mut Vec::new()));
        assert!(!table.grant(3, 3, lease(3), (9, 19), 2, &mut Vec::new()), "full");
        assert!(table.grant(3, 3, lease(4), (10, 20), 2, &mut Vec::new()), "the first has expired");
        assert!(table.get(1, &1).is_none());
        assert!(table.void(2, &2).is_some());
        assert!(table.grant(4, 4, lease(5), (10, 20), 2, &mut Vec::new()), "a voided lease frees its place");
    }

    #[test]
    fn voided_leases_leave_no_growing_queue() {
        let mut table: PendingTable<u64, ()> = PendingTable::new();
        for id in 0..10_000 {
            assert!(table.grant(7, 7, lease(id), (0, u64::MAX), 4, &mut Vec::new()));
            assert!(table.void(7, &7).is_some());
            assert!(table.lease_queue.len() <= 17);
        }
        assert!(table.is_empty());
    }
}
