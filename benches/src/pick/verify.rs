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
        // Chance: none has many times its share.
        Kind::Random | Kind::LeastLoaded | Kind::Hash => count < ROUNDS * 4,
        // Who was slow once may wait long for the next request.
        Kind::Latency => true,
    };
    let left_out = counts.iter().filter(|&&count| count == 0).count();
    let too_many =
        if kind == Kind::Latency { backends > 1 && left_out + 1 >= backends } else { left_out * 100 > backends };
    if too_many || !counts.iter().enumerate().all(is_whole) {
        return Some("did not give backends their shares");
    }
    None
}
