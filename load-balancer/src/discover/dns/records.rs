//! From records to backends: pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use crate::Backend;

#[cfg(test)]
mod tests;

/// A host that serves, with the addresses that were found for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) priority: u16,
    pub(crate) weight: u16,
    pub(crate) port: u16,
    pub(crate) addresses: Vec<IpAddr>,
}

/// The backends of these targets, in the order of their addresses. An address that occurs twice belongs to the lower
/// priority; within one, its weights add up.
pub(crate) fn backends(targets: &[Target]) -> Vec<Backend> {
    let mut by_priority: BTreeMap<u16, Vec<&Target>> = BTreeMap::new();
    for target in targets.iter().filter(|target| !target.addresses.is_empty()) {
        by_priority.entry(target.priority).or_default().push(target);
    }
    let mut backends: BTreeMap<SocketAddr, Backend> = BTreeMap::new();
    for (rank, targets) in by_priority.into_values().enumerate() {
        let priority = u8::try_from(rank).unwrap_or(u8::MAX);
        let mut weights = weights(&targets);
        weights.retain(|address, _| !backends.contains_key(address));
        for (address, weight) in reduced(weights) {
            backends.insert(address, Backend::new(address).with_weight(weight).with_priority(priority));
        }
    }
    backends.into_values().collect()
}

/// What a record of weight 0 is beside one of weight 1.
///
/// RFC 2782: "In the presence of records containing weights greater than 0, records with weight 0 should have a very
/// small chance of being selected."
const ZERO_SHARE: u64 = 100;
/// Weights are multiplied so that they can be divided among the addresses of their targets, up to this.
const MAX_SCALE: u64 = 600;
const _: () = assert!(u16::MAX as u64 * ZERO_SHARE * MAX_SCALE <= u32::MAX as u64);

/// The weights of the addresses of targets of one priority, in proportion.
fn weights(targets: &[&Target]) -> BTreeMap<SocketAddr, u64> {
    let is_mixed = targets.iter().any(|target| target.weight > 0);
    let scale = targets.iter().map(|target| target.addresses.len() as u64).fold(1, lcm).min(MAX_SCALE);
    let mut weights = BTreeMap::new();
    for target in targets {
        let weight = match target.weight {
            0 => 1,
            weight => u64::from(weight) * ZERO_SHARE,
        };
        let unit = if is_mixed { weight } else { 1 };
        let addresses: BTreeSet<_> = target.addresses.iter().collect();
        let share = (unit * scale / addresses.len() as u64).max(1);
        for address in addresses {
            *weights.entry(SocketAddr::new(*address, target.port)).or_insert(0) += share;
        }
    }
    weights
}

/// In the smallest numbers of the same proportion.
fn reduced(weights: BTreeMap<SocketAddr, u64>) -> impl Iterator<Item = (SocketAddr, u32)> {
    let divisor = weights.values().copied().fold(0, gcd).max(1);
    weights.into_iter().map(move |(address, weight)| (address, u32::try_from(weight / divisor).unwrap_or(u32::MAX)))
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Stays within bounds: two numbers of at most this size have a product far below 2^64.
fn lcm(a: u64, b: u64) -> u64 {
    (a / gcd(a, b).max(1) * b).min(1 << 16)
}

/// Backends that an answer lacked, but not enough of them in a row.
#[derive(Debug, Default)]
pub(crate) struct Grace {
    known: BTreeMap<SocketAddr, (Backend, u32)>,
}

impl Grace {
    /// The answer, and those that it lacks for fewer than `removal_after` answers in a row.
    pub(crate) fn apply(&mut self, answer: Vec<Backend>, removal_after: u32) -> Vec<Backend> {
        for (_, misses) in self.known.values_mut() {
            *misses = misses.saturating_add(1);
        }
        self.known.extend(answer.into_iter().map(|backend| (backend.address(), (backend, 0))));
        self.known.retain(|_, (_, misses)| *misses == 0 || *misses < removal_after);
        self.known.values().map(|(backend, _)| backend.clone()).collect()
    }
}
