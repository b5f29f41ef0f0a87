//! r29: the hit ratio of each policy on the climb's own key sequence.

use tenfold_lfu_cache::LfuCache;
use tenfold_lru_cache::{FifoCache, LruCache};
use tenfold_rig::{Claim, Table};

use crate::keys::Keys;

const CAPACITIES: [u64; 3] = [200, 1_000, 4_000];

/// Replays `accesses` of the keys on each policy at three sizes.
pub fn policies(keys: &Keys, seed: u64, accesses: usize) -> (Table, Claim) {
    let mut stream = keys.stream(seed);
    let sequence: Vec<u64> = (0..accesses).map(|_| stream()).collect();
    let mut table = Table::new("hit ratio by policy", ["entries", "LRU %", "LFU %", "FIFO %"]);
    let mut gain = f64::NEG_INFINITY;
    let (mut best, mut fifo_there) = (0.0, 0.0);
    for capacity in CAPACITIES {
        let (lru, lfu, fifo) = (LruCache::new(capacity), LfuCache::new(capacity), FifoCache::new(capacity));
        let lru = hit_ratio(&sequence, |key| lru.get(&key).is_some() || lru.insert(key, ()).is_some());
        let lfu = hit_ratio(&sequence, |key| lfu.get(&key).is_some() || lfu.insert(key, ()).is_some());
        let fifo = hit_ratio(&sequence, |key| fifo.get(&key).is_some() || fifo.insert(key, ()).is_some());
        let percent = |ratio: f64| format!("{:.2}", ratio * 100.0);
        table.row([capacity.to_string(), percent(lru), percent(lfu), percent(fifo)]);
        if lru.max(lfu) - fifo > gain {
            gain = lru.max(lfu) - fifo;
            (best, fifo_there) = (lru.max(lfu) * 100.0, fifo * 100.0);
        }
    }
    table.note = format!("{accesses} reads, {}", keys.describe());
    let claim = Claim::new("r29", "what is used again is worth keeping: the best of LRU and LFU", best, gain > 0.0)
        .control(fifo_there)
        .unit("% hits")
        .note("control: FIFO, at the size where they differ most");
    (table, claim)
}

/// The share of accesses for which `hit` is true.
fn hit_ratio(sequence: &[u64], mut hit: impl FnMut(u64) -> bool) -> f64 {
    let hits = sequence.iter().filter(|key| hit(**key)).count();
    hits as f64 / sequence.len().max(1) as f64
}
