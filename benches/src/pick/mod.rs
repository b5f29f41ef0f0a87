//! Choosing a backend: ours, the peers, and what one writes before one takes a crate, in one race.
//!
//! Nothing is sent anywhere. A pick is what a host pays for each request before it opens a connection: it ends with the address
//! of a backend, and where a balancer counts requests in flight, with the request's end. Backends have no weights but where the
//! kind is [`Kind::Weighted`].
//!
//! | kind | what all of that kind do |
//! |---|---|
//! | `round-robin` | one backend after the other |
//! | `weighted` | in proportion to weights of 1, 2, 3, 5 |
//! | `random` | a random one |
//! | `least-loaded` | the better of two by requests in flight; the request begins and ends |
//! | `latency` | the same by latency, which is measured as it ends |
//! | `hash` | by the key of the request |
//!
//! [`ours`] are tenfold's, [`naive`] the ones written by hand, `pingora` and [`tower`] the peers.

pub mod naive;
pub mod ours;
#[cfg(tenfold_pingora)]
pub mod pingora;
pub mod race;
pub mod tower;
mod verify;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::Serialize;

/// What is picked by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// One after the other.
    RoundRobin,
    /// In proportion to weights.
    Weighted,
    /// At random.
    Random,
    /// By requests in flight, of two at random.
    LeastLoaded,
    /// By how fast backends answer.
    Latency,
    /// By the key.
    Hash,
}

/// Whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// One of this workspace.
    Ours,
    /// Another crate's.
    Peer,
    /// Written here by hand, as one would without a crate.
    Naive,
    /// No balancer: the least that any could do. It cannot learn of a change.
    Floor,
}

/// Picks, on one thread.
pub trait Picker {
    /// The number of the backend for a request with this key; `None` if it gave none or one that is unknown.
    fn pick(&mut self, key: u64) -> Option<usize>;
}

/// A [`Picker`] whose picks are made many at a call, so that a call through a pointer does not count.
pub trait Hand {
    /// Picks `count` times, with keys from `key` on, and gives how many picks went wrong.
    fn pick_many(&mut self, key: u64, count: usize) -> usize;

    /// The number of the backend for one key.
    fn pick_one(&mut self, key: u64) -> Option<usize>;
}

impl<P: Picker> Hand for P {
    fn pick_many(&mut self, key: u64, count: usize) -> usize {
        // The sum is a use of each answer.
        let (mut wrong, mut sum) = (0, 0);
        for number in 0..count as u64 {
            match self.pick(spread(key.wrapping_add(number))) {
                Some(backend) => sum += backend,
                None => wrong += 1,
            }
        }
        std::hint::black_box(sum);
        wrong
    }

    fn pick_one(&mut self, key: u64) -> Option<usize> {
        self.pick(spread(key))
    }
}

/// Makes uniform keys of consecutive numbers, in one multiplication.
#[inline]
#[must_use]
pub fn spread(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// A balancer that threads share.
pub trait SharedPool: Send + Sync {
    /// What one thread picks with.
    fn hand(&self) -> Box<dyn Hand + '_>;
}

/// A balancer over its backends.
pub enum Pool {
    /// For one thread.
    Local(Box<dyn Hand>),
    /// For any number of threads.
    Shared(Box<dyn SharedPool>),
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if matches!(self, Self::Local(_)) { "Local" } else { "Shared" })
    }
}

impl Pool {
    /// For any number of threads.
    pub fn shared(pool: impl SharedPool + 'static) -> Self {
        Self::Shared(Box::new(pool))
    }

    /// Uses it on this thread.
    pub fn drive<R>(&mut self, work: impl FnOnce(&mut dyn Hand) -> R) -> R {
        match self {
            Self::Local(hand) => work(hand.as_mut()),
            Self::Shared(pool) => work(pool.hand().as_mut()),
        }
    }
}

/// A balancer that can be built over any number of backends.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// The name in rows and on the command line.
    pub name: &'static str,
    /// What it picks by.
    pub kind: Kind,
    /// Whose it is.
    pub origin: Origin,
    /// With more backends it stays out: it would take gigabytes, or minutes.
    pub max_backends: usize,
    /// Builds it over so many backends (at least 1).
    pub build: fn(usize) -> Pool,
}

/// Every balancer.
#[must_use]
pub fn all() -> Vec<Candidate> {
    #[cfg(tenfold_pingora)]
    let pingora = pingora::CANDIDATES;
    #[cfg(not(tenfold_pingora))]
    let pingora: &[Candidate] = &[];
    [ours::CANDIDATES, naive::CANDIDATES, tower::CANDIDATES, pingora].concat()
}

/// A name that no balancer has.
#[derive(Debug, thiserror::Error)]
#[error("no balancer is called `{name}`; --list prints the names")]
pub struct UnknownPicker {
    name: String,
}

/// The balancers with these names; all without any.
///
/// # Errors
///
/// [`UnknownPicker`] for the first name that none of them has.
pub fn select(names: &[String]) -> Result<Vec<Candidate>, UnknownPicker> {
    let all = all();
    if let Some(name) = names.iter().find(|name| all.iter().all(|candidate| candidate.name != name.as_str())) {
        return Err(UnknownPicker { name: name.clone() });
    }
    let is_wanted = |candidate: &Candidate| names.is_empty() || names.iter().any(|name| name == candidate.name);
    Ok(all.into_iter().filter(is_wanted).collect())
}

/// Where backend `number` is.
#[must_use]
pub fn address(number: usize) -> SocketAddr {
    let number = u32::try_from(number).expect("a race has few backends");
    SocketAddr::new(IpAddr::V4(Ipv4Addr::from(FIRST + number)), 80)
}

/// The number of the backend at this address, if it is below `count`.
#[inline]
fn number(address: SocketAddr, count: usize) -> Option<usize> {
    let IpAddr::V4(ip) = address.ip() else { return None };
    let number = u32::from(ip).wrapping_sub(FIRST) as usize;
    (number < count).then_some(number)
}

/// 10.0.0.0.
const FIRST: u32 = 0x0a00_0000;

/// The weight of backend `number` where the kind is [`Kind::Weighted`].
#[must_use]
pub fn weight(number: usize) -> u32 {
    [1, 2, 3, 5][number % 4]
}
