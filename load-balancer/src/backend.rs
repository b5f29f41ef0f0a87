//! What a backend is: who it is, where it is, how much it can take, and what the host keeps beside it.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

/// Who a backend is, across changes of its address, weight or zone.
///
/// A stable 64-bit hash of the backend's name: the same name gives the same id in every process and version, so it may
/// stand in a cookie and tells a client nothing about the address. The hash policies place backends by it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendId(u64);

impl BackendId {
    /// The id of a name.
    ///
    /// # Source
    /// FNV-1a, 64 bits (draft-eastlake-fnv), finished by the mixer of SplitMix64: FNV alone leaves the high bits of
    /// short names alike.
    #[must_use]
    pub fn of_name(name: &str) -> Self {
        let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        Self(crate::rng::mix(name.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, fnv)))
    }

    /// The id of a backend that is named by its address.
    #[must_use]
    pub fn of_address(address: SocketAddr) -> Self {
        Self::of_name(&address.to_string())
    }

    /// An id that was taken apart by [`get`](Self::get).
    #[must_use]
    pub const fn from_u64(id: u64) -> Self {
        Self(id)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for BackendId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BackendId({self})")
    }
}

/// Sixteen hexadecimal digits, fit for a cookie; [`FromStr`] reads them back.
impl fmt::Display for BackendId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A text that is not sixteen hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a backend id is sixteen hexadecimal digits")]
#[non_exhaustive]
pub struct ParseBackendIdError;

impl FromStr for BackendId {
    type Err = ParseBackendIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let id = digits.then(|| u64::from_str_radix(text, 16).ok()).flatten();
        id.map(Self).ok_or(ParseBackendIdError)
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for BackendId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A place whose members are near each other: an availability zone, a rack, a data centre.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(from = "String", into = "String"))]
pub struct Zone(Arc<str>);

impl Zone {
    /// The zone of this name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl From<String> for Zone {
    fn from(name: String) -> Self {
        Self(name.into())
    }
}

impl From<Zone> for String {
    fn from(zone: Zone) -> Self {
        zone.name().to_owned()
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One server that requests can go to, with a `T` of the host's beside it (a connection pool, a client, nothing).
///
/// # Examples
/// ```
/// use tenfold_load_balancer::{Backend, Zone};
///
/// let backend = Backend::new("10.0.0.7:8080".parse()?).with_weight(3).with_zone(Zone::new("eu-1a"));
/// assert_eq!(backend.weight(), 3);
/// assert_eq!(backend.id(), Backend::new("10.0.0.7:8080".parse()?).id());
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend<T = ()> {
    id: BackendId,
    address: SocketAddr,
    weight: u32,
    priority: u8,
    zone: Option<Zone>,
    is_draining: bool,
    data: T,
}

impl Backend {
    /// A backend at this address, named by it, of weight 1, in the first pool and in no zone.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        let id = BackendId::of_address(address);
        Self { id, address, weight: 1, priority: 0, zone: None, is_draining: false, data: () }
    }
}

impl<T> Backend<T> {
    /// Gives it a name of its own (a pod's, a host's), so that it stays who it is when its address changes.
    #[must_use]
    pub fn with_name(mut self, name: &str) -> Self {
        self.id = BackendId::of_name(name);
        self
    }

    /// How much it takes beside the others; default 1. Weight 0 takes no new request, like a drained backend.
    ///
    /// Which policies look at it is said at each [`Policy`](crate::Policy).
    #[must_use]
    pub const fn with_weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    /// The pool it belongs to: 0 is the primary one, 1 the first backup, and so on; default 0.
    #[must_use]
    pub const fn with_priority(mut self, priority: u8) -> Self {
        self.priority = priority;
        self
    }

    /// Where it stands; default nowhere.
    #[must_use]
    pub fn with_zone(mut self, zone: Zone) -> Self {
        self.zone = Some(zone);
        self
    }

    /// Lets it leave: it takes no new request, except of clients that ask for it as [`sticky`](crate::Request::sticky),
    /// even if it is inserted only now.
    #[must_use]
    pub const fn with_draining(mut self) -> Self {
        self.is_draining = true;
        self
    }

    /// Replaces what the host keeps beside it.
    #[must_use]
    pub fn with_data<U>(self, data: U) -> Backend<U> {
        self.map_data(|_| data)
    }

    /// Makes what the host keeps beside it of what is there.
    #[must_use]
    pub fn map_data<U>(self, make: impl FnOnce(T) -> U) -> Backend<U> {
        let Self { id, address, weight, priority, zone, is_draining, data } = self;
        Backend { id, address, weight, priority, zone, is_draining, data: make(data) }
    }

    pub(crate) fn into_parts(self) -> (BackendId, SocketAddr, T) {
        (self.id, self.address, self.data)
    }

    /// Who it is.
    #[inline]
    #[must_use]
    pub const fn id(&self) -> BackendId {
        self.id
    }

    /// Where it is.
    #[inline]
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// How much it takes.
    #[inline]
    #[must_use]
    pub const fn weight(&self) -> u32 {
        self.weight
    }

    /// Its pool.
    #[inline]
    #[must_use]
    pub const fn priority(&self) -> u8 {
        self.priority
    }

    /// Its zone.
    #[inline]
    #[must_use]
    pub const fn zone(&self) -> Option<&Zone> {
        self.zone.as_ref()
    }

    /// Whether it leaves.
    #[inline]
    #[must_use]
    pub const fn is_draining(&self) -> bool {
        self.is_draining
    }

    /// Whether new requests may go to it.
    pub(crate) const fn takes_requests(&self) -> bool {
        self.weight > 0 && !self.is_draining
    }

    /// What the host keeps beside it.
    #[inline]
    #[must_use]
    pub const fn data(&self) -> &T {
        &self.data
    }
}

/// A change of the set of backends, as a discovery source reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change<T = ()> {
    /// A backend joins, or one of this id changes its weight, zone or priority. One that changes its address is new: it
    /// takes over nothing, and the requests in flight at the old address may end. At the same address the data beside it
    /// stay what they were, with counts, latency and health. Ends its draining, unless it is
    /// [draining](Backend::with_draining).
    Insert(Backend<T>),
    /// A backend is gone: no new request goes to it, those in flight may end.
    Remove(BackendId),
    /// A backend leaves soon: as removed, but still listed until the host removes it.
    Drain(BackendId),
    /// These, and no others. Backends that stay keep their state.
    Replace(Vec<Backend<T>>),
}

impl<T> Change<T> {
    /// The same change, with each backend in it made another: to put something beside the backends of a source that knows
    /// addresses only.
    #[must_use]
    pub fn map<U>(self, mut make: impl FnMut(Backend<T>) -> Backend<U>) -> Change<U> {
        match self {
            Self::Insert(backend) => Change::Insert(make(backend)),
            Self::Remove(id) => Change::Remove(id),
            Self::Drain(id) => Change::Drain(id),
            Self::Replace(backends) => Change::Replace(backends.into_iter().map(make).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_its_text() {
        let id = BackendId::of_name("web-1");
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "12", "00000000000000zz", "+000000000000000", "00000000000000000"] {
            assert_eq!(bad.parse::<BackendId>(), Err(ParseBackendIdError), "{bad}");
        }
    }

    #[test]
    fn names_and_addresses_give_stable_ids() {
        let address = "127.0.0.1:80".parse().unwrap();
        assert_eq!(BackendId::of_address(address), BackendId::of_name("127.0.0.1:80"));
        assert_ne!(BackendId::of_name("web-1"), BackendId::of_name("web-2"));
        assert_eq!(Backend::new(address).with_name("web-1").id(), BackendId::of_name("web-1"));
    }
}
