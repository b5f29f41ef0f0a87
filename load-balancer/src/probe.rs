//! Asking a backend how it is: whom, and what came of it.

use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use crate::BackendId;
use crate::time::Time;

/// A backend to be probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Probe {
    /// Who.
    pub id: BackendId,
    /// Where.
    pub address: SocketAddr,
    /// When it has failed: [`ProbeConfig::timeout`](crate::ProbeConfig::timeout).
    pub timeout: Duration,
    pub(crate) began: Time,
}

/// How a probe went. Where a `bool` will do, `true` is good and `false` is bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProbeResult {
    /// The backend is well.
    Good,
    /// It is not.
    Bad,
    /// It was not asked: there was no descriptor, port or memory for it on this side. Changes nothing; it is asked again
    /// soon.
    Unasked,
}

impl ProbeResult {
    /// What it says of a backend that no connection to it could be made.
    ///
    /// By a list of what comes from the other side or from the way there; anything else is a want on this side, which all
    /// backends would be taken out for at once.
    ///
    /// # Examples
    /// ```
    /// use std::io::{Error, ErrorKind};
    /// use tenfold_load_balancer::ProbeResult;
    ///
    /// assert_eq!(ProbeResult::of_connect_error(&Error::from(ErrorKind::ConnectionRefused)), ProbeResult::Bad);
    /// assert_eq!(ProbeResult::of_connect_error(&Error::from(ErrorKind::AddrNotAvailable)), ProbeResult::Unasked);
    /// ```
    #[must_use]
    pub fn of_connect_error(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::TimedOut => Self::Bad,
            _ => Self::Unasked,
        }
    }
}

impl From<bool> for ProbeResult {
    fn from(is_good: bool) -> Self {
        if is_good { Self::Good } else { Self::Bad }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_want_on_this_side_says_nothing_of_a_backend() {
        // EMFILE, ENFILE, EADDRNOTAVAIL, ENOMEM, ENOBUFS, EACCES and EPERM, as Linux numbers them.
        for code in [24, 23, 99, 12, 105, 13, 1] {
            let error = Error::from_raw_os_error(code);
            assert_eq!(ProbeResult::of_connect_error(&error), ProbeResult::Unasked, "{error}");
        }
        // ECONNREFUSED, ECONNRESET, EHOSTUNREACH, ENETUNREACH, ETIMEDOUT.
        for code in [111, 104, 113, 101, 110] {
            let error = Error::from_raw_os_error(code);
            assert_eq!(ProbeResult::of_connect_error(&error), ProbeResult::Bad, "{error}");
        }
    }
}
