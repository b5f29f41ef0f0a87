//! Picks a healthy backend in nanoseconds and keeps requests alive when one dies.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod backend;
mod outcome;
mod rng;

pub use backend::{Backend, BackendId, Change, ParseBackendIdError, Zone};
pub use outcome::{Failure, Outcome};
pub use rng::Rng;
