//! How a request to a backend ended, in the terms that health and retries need.

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The backend did its work.
    Success,
    /// It did not.
    Failure(Failure),
}

/// What went wrong, by what is known of the request afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Failure {
    /// The connection was refused, reset while connecting, or the host is unreachable: nobody serves there now.
    Refused,
    /// The request did not leave: no connection in time, a pool that was closed, a stale kept-alive connection.
    NotSent,
    /// The backend said that it did not begin: HTTP/2 REFUSED_STREAM, or a stream beyond the last one that GOAWAY names.
    ///
    /// HTTP 503 says nothing of the kind: whatever stands behind the backend may have failed in the middle. It belongs
    /// here where the request is idempotent, since then nothing depends on it and a busy backend is judged mildly, and is
    /// [`Answered`](Self::Answered) where it is not. A 429 is an answer to the client, about the client.
    Rejected,
    /// Some of it was sent and the connection broke before the whole answer: it may have been done.
    Broken,
    /// It was sent and no answer came in time: it may have been done, or be done later.
    TimedOut,
    /// The backend answered that it failed (HTTP 500, 502, 504; 503, if the request is not idempotent): it may have been done in part.
    Answered,
}

impl Failure {
    /// Whether the request surely had no effect, so that repeating it is safe even if it is not idempotent.
    #[must_use]
    pub const fn had_no_effect(self) -> bool {
        matches!(self, Self::Refused | Self::NotSent | Self::Rejected)
    }
}

impl Outcome {
    /// Whether the backend did its work.
    #[must_use]
    pub const fn is_success(self) -> bool {
        matches!(self, Self::Success)
    }
}
