use super::*;
use crate::testing::for_each_seed;
use crate::{BackendId, Rng};

fn seats(weights: &[u32]) -> Vec<Seat> {
    let seat = |(at, &weight)| Seat { id: BackendId::from_u64(at as u64), weight };
    weights.iter().enumerate().map(seat).collect()
}

fn round(weights: &[u32]) -> Vec<u32> {
    let smooth = Smooth::build(&seats(weights));
    (0..smooth.len()).map(|turn| smooth.seat(turn)).collect()
}

/// The rules, stated once more without heaps and windows: whole shares in a round, and no prefix off by a turn.
#[track_caller]
fn check_fair(round: &[u32], counts: &[u64]) {
    let len = round.len() as i128;
    let mut taken = vec![0_i128; counts.len()];
    for (turn, &seat) in round.iter().enumerate() {
        taken[seat as usize] += 1;
        for (&taken, &count) in taken.iter().zip(counts) {
            let lag = i128::from(count) * (turn as i128 + 1) - taken * len;
            assert!(lag.abs() < len, "{lag}/{len} after turn {turn} with {counts:?}");
        }
    }
    assert!(taken.iter().zip(counts).all(|(&taken, &count)| taken == i128::from(count)), "{taken:?} of {counts:?}");
}

fn longest_run(round: &[u32], seat: u32) -> usize {
    let twice = round.iter().chain(round);
    let mut longest = 0;
    twice.fold(0, |run, &at| {
        let run = if at == seat { run + 1 } else { 0 };
        longest = longest.max(run);
        run
    });
    longest
}

#[test]
fn equal_weights_are_plain_round_robin() {
    for weight in [1, 7, u32::MAX] {
        assert_eq!(round(&[weight; 5]), [0, 1, 2, 3, 4]);
    }
    assert_eq!(round(&[9]), [0]);
    assert_eq!(round(&[0, 1]), [0, 1], "0 counts as 1");
}

#[test]
fn heavy_and_light_alternate() {
    assert_eq!(round(&[2, 1, 1]), [0, 1, 0, 2]);
    assert_eq!(round(&[30, 10, 20]).len(), 6);
    assert_eq!(longest_run(&round(&[5, 1, 1]), 0), 3, "five turns with two others between them");
}

#[test]
fn no_prefix_is_off_by_a_turn() {
    for_each_seed(|seed| {
        let mut rng = Rng::new(seed);
        for _ in 0..60 {
            let bits = rng.below(9);
            let weights: Vec<u32> = (0..=rng.below(12)).map(|_| 1 + rng.below(1 << bits) as u32).collect();
            let round = round(&weights);
            let divisor = weights.iter().fold(0, |a, &b| greatest_common_divisor(a, u64::from(b)));
            let counts: Vec<u64> = weights.iter().map(|&weight| u64::from(weight) / divisor).collect();
            check_fair(&round, &counts);
            for (seat, &count) in counts.iter().enumerate() {
                if count * 2 <= round.len() as u64 {
                    assert!(longest_run(&round, seat as u32) <= 3, "{weights:?}");
                }
            }
        }
    });
}

#[test]
fn long_rounds_are_cut_and_stay_fair() {
    for_each_seed(|seed| {
        let mut rng = Rng::new(seed);
        let weights: Vec<u32> = (0..20).map(|_| 1 + (rng.next_u64() >> (32 + rng.below(30))) as u32).collect();
        let round = round(&weights);
        assert!(round.len() <= MAX_TURNS);
        let mut counts = vec![0_u64; weights.len()];
        round.iter().for_each(|&seat| counts[seat as usize] += 1);
        check_fair(&round, &counts);
        let total: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
        for (&count, &weight) in counts.iter().zip(&weights) {
            let share = round.len() as f64 * f64::from(weight) / total;
            // Up to 20 light ones are given a turn each that is not theirs.
            assert!((count as f64 - share).abs() <= 20.0 * share / round.len() as f64 + 1.0, "{count} of {share}");
        }
    });
}

#[test]
fn extremes_get_a_turn_each() {
    let round = round(&[1, u32::MAX]);
    assert_eq!(round.len(), MAX_TURNS);
    assert_eq!(round.iter().filter(|&&seat| seat == 0).count(), 1);
}

#[test]
fn many_backends_have_a_longer_round() {
    let weights: Vec<u32> = (0..20_000).map(|at| 1 + at * 17 % 1_000).collect();
    let round = round(&weights);
    assert!(round.len() <= 80_000);
    let mut counts = vec![0; weights.len()];
    round.iter().for_each(|&seat| counts[seat as usize] += 1);
    assert!(counts.iter().all(|&count| count > 0));
}
