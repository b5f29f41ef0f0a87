//! Places for those who wait, reused when they leave.

/// A slab: values at stable indices, the freed indices chained for reuse.
///
/// # Invariants
/// - **I1** `taken` is the number of taken seats.
/// - **I2** The chain from `free` visits each free seat once and ends.
///
/// Hence the memory is bounded by the most values held at one time.
pub(super) struct Seats<T> {
    seats: Vec<Seat<T>>,
    free: Option<usize>,
    taken: usize,
}

enum Seat<T> {
    Taken(T),
    Free { next: Option<usize> },
}

impl<T> Seats<T> {
    pub(super) const fn new() -> Self {
        Self { seats: Vec::new(), free: None, taken: 0 }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.taken
    }

    pub(super) fn is_empty(&self) -> bool {
        self.taken == 0
    }

    pub(super) fn insert(&mut self, value: T) -> usize {
        self.taken += 1;
        let Some(index) = self.free else {
            self.seats.push(Seat::Taken(value));
            return self.seats.len() - 1;
        };
        if let Seat::Free { next } = std::mem::replace(&mut self.seats[index], Seat::Taken(value)) {
            self.free = next;
        }
        index
    }

    /// The value at `index`, if that seat is taken.
    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        match self.seats.get_mut(index) {
            Some(Seat::Taken(value)) => Some(value),
            _ => None,
        }
    }

    /// Frees the seat and hands its value back, if it was taken.
    pub(super) fn remove(&mut self, index: usize) -> Option<T> {
        let seat = self.seats.get_mut(index)?;
        if let Seat::Free { .. } = seat {
            return None;
        }
        let left = std::mem::replace(seat, Seat::Free { next: self.free });
        self.free = Some(index);
        self.taken -= 1;
        match left {
            Seat::Taken(value) => Some(value),
            Seat::Free { .. } => None,
        }
    }

    /// The values, lowest index first.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.seats.iter_mut().filter_map(|seat| match seat {
            Seat::Taken(value) => Some(value),
            Seat::Free { .. } => None,
        })
    }

    /// Frees every seat and the memory with them.
    pub(super) fn into_values(self) -> impl Iterator<Item = T> {
        self.seats.into_iter().filter_map(|seat| match seat {
            Seat::Taken(value) => Some(value),
            Seat::Free { .. } => None,
        })
    }

    /// How many seats there have ever been at one time.
    #[cfg(all(test, not(shuttle)))]
    pub(super) fn places(&self) -> usize {
        self.seats.len()
    }

    #[cfg(test)]
    pub(super) fn check_invariants(&self) {
        let taken = self.seats.iter().filter(|seat| matches!(seat, Seat::Taken(_))).count();
        assert_eq!(self.taken, taken, "I1");
        let (mut at, mut free) = (self.free, 0);
        while let Some(index) = at {
            free += 1;
            assert!(free <= self.seats.len(), "I2: the chain ends");
            match &self.seats[index] {
                Seat::Free { next } => at = *next,
                Seat::Taken(_) => panic!("I2: a taken seat in the chain"),
            }
        }
        assert_eq!(taken + free, self.seats.len(), "I2");
    }
}
