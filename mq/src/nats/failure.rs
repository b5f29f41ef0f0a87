//! What the client's errors are to us.

use std::io::ErrorKind;

use async_nats::{RequestError, RequestErrorKind};

use crate::{Failure, GroupError, QueueError, ReceiveError, SettleError};

/// The client has given the connection up.
pub(super) fn closed() -> Failure {
    Failure::from(ErrorKind::NotConnected)
}

/// The server said what it should not.
pub(super) fn nonsense() -> Failure {
    Failure::from(ErrorKind::InvalidData)
}

pub(super) fn of_request(error: &RequestError) -> Failure {
    Failure::from(match error.kind() {
        RequestErrorKind::TimedOut => ErrorKind::TimedOut,
        RequestErrorKind::NoResponders => ErrorKind::ConnectionRefused,
        _ => ErrorKind::NotConnected,
    })
}

/// Why JetStream did not do what it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ApiError {
    /// It said so, with this `err_code`.
    Code(u64),
    /// It did not answer, or nonsense.
    Failed(Failure),
}

impl ApiError {
    pub(super) const STREAM_NOT_FOUND: Self = Self::Code(10059);
    pub(super) const CONSUMER_NOT_FOUND: Self = Self::Code(10014);

    pub(super) fn failure(self) -> Failure {
        match self {
            Self::Failed(failure) => failure,
            Self::STREAM_NOT_FOUND | Self::CONSUMER_NOT_FOUND => Failure::from(ErrorKind::NotFound),
            Self::Code(_) => Failure::from(ErrorKind::Other),
        }
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<ApiError> for GroupError {
    fn from(error: ApiError) -> Self {
        if error == ApiError::CONSUMER_NOT_FOUND { Self::Unknown } else { Self::Failed(error.failure()) }
    }
}

impl From<ApiError> for ReceiveError {
    fn from(error: ApiError) -> Self {
        if error == ApiError::CONSUMER_NOT_FOUND { Self::NoGroup } else { Self::Failed(error.failure()) }
    }
}

impl From<ApiError> for SettleError {
    fn from(error: ApiError) -> Self {
        Self::Failed(error.failure())
    }
}

impl From<ApiError> for QueueError {
    fn from(error: ApiError) -> Self {
        Self::Failed(error.failure())
    }
}
