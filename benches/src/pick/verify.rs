//! Whether a balancer picks as its kind says: a figure for wrong answers is worth nothing.

use super::{Hand, Kind, weight};

/// Rounds over all backends that are looked at.
const ROUNDS: usize = 20;

/// What is wrong with the picks over so many backends, if anything.
pub(super) fn fault(kind: Kind, hand: &mut dyn Hand, backends: usize) -> Option<&'static str> {
    let whole_rounds = match kind {
        Kind::Weighted => (0..backends).map(|number| weight(number) as usize).sum(),
        _ => backends,
    };
    let mut counts = vec![0_usize; backends];
    for key in 0..(whole_rounds * ROUNDS) as u64 {
        let Some(number) = hand.pick_one(key) else { return Some("picked nobody it knows") };
        counts[number] += 1;
        if kind == Kind::Hash && hand.pick_one(key) != Some(number) {
            return Some("gave a key to two backends");
        }
    }
    let is_whole = |(number, &count): (usize, &usize)| match kind {
        Kind::RoundRobin => count == ROUNDS,
        Kind::Weighted => count == ROUNDS * weight(number) as usize,
        // Chance: a backend may be left out, but not one in a hundred, and none has many times its share.
        Kind::Random | Kind::LeastLoaded | Kind::Hash => count < ROUNDS * 4,
    };
    let left_out = counts.iter().filter(|&&count| count == 0).count();
    if !counts.iter().enumerate().all(is_whole) || left_out * 100 > backends {
        return Some("did not give backends their shares");
    }
    None
}
