//! Each table beside the definition in its documentation, spelled out without a thought for speed.

use super::*;

/// Every claim that there is, in the order of time: when, the weight, the lot; then the seat and the slot.
fn claims(seats: &[Seat], slots: u32, pace: impl Fn(u32) -> f64, lot: impl Fn(&Seat, u32) -> u64) -> Vec<(u32, usize)> {
    let mut claims = Vec::new();
    for (at, seat) in seats.iter().enumerate() {
        let mut preference = Preference::new(seat, slots);
        for round in 0..slots {
            let time = pace(round) / seat.weight() as f64;
            claims.push((time.to_bits(), seat.weight(), lot(seat, round), at as u32, preference.next(slots)));
        }
    }
    claims.sort_unstable();
    claims.into_iter().map(|(_, _, _, seat, slot)| (seat, slot)).collect()
}

fn capped(seats: &[Seat], slots: u32, cap_percent: u32) -> Vec<u32> {
    let pace = |round| negative_ln(1.0 - (f64::from(round) + 0.5) / f64::from(slots));
    let lot = |seat: &Seat, round| seat.lot().wrapping_sub(hash_of(0, u64::from(round)));
    let total: u64 = seats.iter().map(Seat::weight).sum();
    let most = |seat: &Seat| {
        (u128::from(slots) * u128::from(seat.weight()) * u128::from(cap_percent)).div_ceil(u128::from(total) * 100)
    };
    let mut owners = vec![None; slots as usize];
    let mut held = vec![0; seats.len()];
    for (seat, slot) in claims(seats, slots, pace, lot) {
        if owners[slot].is_none() && held[seat as usize] < most(&seats[seat as usize]) {
            owners[slot] = Some(seat);
            held[seat as usize] += 1;
        }
    }
    owners.into_iter().map(Option::unwrap).collect()
}

fn maglev(seats: &[Seat], slots: u32) -> Vec<u32> {
    let mut turns = claims(seats, slots, f64::from, |seat, _| seat.lot());
    turns.truncate(slots as usize);
    let order = |seat: &Seat| {
        let mut preference = Preference::new(seat, slots);
        (0..slots).map(|_| preference.next(slots)).collect::<Vec<_>>()
    };
    let orders: Vec<Vec<usize>> = seats.iter().map(order).collect();
    let mut owners = vec![None; slots as usize];
    for (seat, _) in turns {
        let favourite = orders[seat as usize].iter().find(|&&slot| owners[slot].is_none());
        owners[*favourite.unwrap()] = Some(seat);
    }
    owners.into_iter().map(Option::unwrap).collect()
}

#[test]
fn tables_are_what_their_documentation_says() {
    for_each_seed(|seed| {
        let mut rng = Rng::new(seed);
        for _ in 0..6 {
            let bits = rng.below(4);
            let weights: Vec<u32> = (0..=rng.below(12)).map(|_| 1 + rng.below(1 << bits) as u32).collect();
            let seats = seats(&mut rng, &weights);
            let wanted = 100 + rng.below(400) as u32;
            let slots = slot_count(wanted, seats.len());
            assert_eq!(Maglev::build(&seats, wanted).unwrap().owners(), maglev(&seats, slots), "{weights:?}");
            for cap in [100, 102, 130] {
                let table = CappedRendezvous::build(&seats, wanted, cap).unwrap();
                assert_eq!(table.owners(), capped(&seats, slots, cap), "{weights:?}, at most {cap} %");
            }
        }
    });
}

#[test]
fn no_seat_holds_more_than_its_cap() {
    for_each_seed(|seed| {
        let mut rng = Rng::new(seed);
        let weights: Vec<u32> = (0..=rng.below(300)).map(|_| (rng.next_u64() >> (33 + rng.below(31))) as u32).collect();
        let seats = seats(&mut rng, &weights);
        let cap = 100 + rng.below(20) as u32;
        let table = CappedRendezvous::build(&seats, 10_007, cap).unwrap();
        let mut held = vec![0_u32; seats.len()];
        table.owners().iter().for_each(|&owner| held[owner as usize] += 1);
        for (&held, seat) in held.iter().zip(&seats) {
            let share = table.owners().len() as f64 * seat.weight() as f64 / total_weight(&seats) as f64;
            assert!(f64::from(held) < share * f64::from(cap) / 100.0 + 1.000_1, "{held} of {share} at {cap} %");
        }
    });
}
