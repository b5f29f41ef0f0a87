//! What the balancer must know of the requests and answers that pass through it, whatever they are.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use crate::limit::{ConcurrencyLimit, Permit};
use crate::{BackendId, Key, Outcome, Priority};

/// What a request says about how it may be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traits {
    /// What the hash policies place it by.
    pub key: Option<Key>,
    /// The backend that served this client before.
    pub sticky: Option<BackendId>,
    /// Whether doing it twice is the same as doing it once: then it may be retried whatever happened, and hedged.
    /// Default: no.
    pub is_idempotent: bool,
    /// What is refused first where there is a limit.
    pub priority: Priority,
    /// When its caller gives up, if that is known.
    pub deadline: Option<Instant>,
}

/// The places that a request has whose answer has begun: it is in flight at its backend, and under the limit if there is
/// one, while this lives.
#[must_use = "the places are given up when it is dropped"]
pub struct Held {
    pub(super) _in_flight: Box<dyn Send + Sync>,
    pub(super) _permit: Option<Permit<Arc<ConcurrencyLimit>>>,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").finish_non_exhaustive()
    }
}

/// Reads requests and answers for the balancer.
///
/// Three closures are one: `(describe, classify, copy)`.
///
/// # Examples
/// ```
/// use tenfold_load_balancer::{Failure, Outcome, Protocol, Traits};
///
/// struct Lookup;
///
/// impl Protocol<String, u32, std::io::Error> for Lookup {
///     fn describe(&self, _: &String) -> Traits {
///         Traits { is_idempotent: true, ..Traits::default() }
///     }
///
///     fn classify(&self, result: &Result<u32, std::io::Error>) -> Outcome {
///         match result {
///             Ok(_) => Outcome::Success,
///             Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
///                 Outcome::Failure(Failure::Refused)
///             }
///             Err(_) => Outcome::Failure(Failure::Broken),
///         }
///     }
///
///     fn copy(&self, request: &String) -> Option<String> {
///         Some(request.clone())
///     }
/// }
/// ```
pub trait Protocol<Request, Response, Error> {
    /// How the request may be sent.
    fn describe(&self, request: &Request) -> Traits;

    /// How it went.
    fn classify(&self, result: &Result<Response, Error>) -> Outcome;

    /// A copy to keep in case that another try is needed; `None` if there can be none (a body that streams, or one too
    /// large to keep), and then there is one try. Not asked where the settings allow only one.
    fn copy(&self, request: &Request) -> Option<Request>;

    /// Lets the answer that is returned hold the request's places, where the service was made
    /// [so](super::Balance::with_held_answers): puts `held` beside the body, to be dropped with it. Default: drops it.
    fn hold(&self, response: Response, held: Held) -> Response {
        drop(held);
        response
    }

    /// The answer that is returned, and who gave it: the place to set a cookie. Default: nothing.
    fn answered(&self, response: &mut Response, by: BackendId) {
        let _ = (response, by);
    }
}

impl<Request, Response, Error, D, C, K> Protocol<Request, Response, Error> for (D, C, K)
where
    D: Fn(&Request) -> Traits,
    C: Fn(&Result<Response, Error>) -> Outcome,
    K: Fn(&Request) -> Option<Request>,
{
    #[inline]
    fn describe(&self, request: &Request) -> Traits {
        (self.0)(request)
    }

    #[inline]
    fn classify(&self, result: &Result<Response, Error>) -> Outcome {
        (self.1)(result)
    }

    #[inline]
    fn copy(&self, request: &Request) -> Option<Request> {
        (self.2)(request)
    }
}
