//! Which users are asked for, and the requests that ask.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use tenfold_rig::{Request, Trace, TraceError, WEB07, Workload, ZipfError};

use crate::rung::USERS;

/// A stream of user ids.
pub type KeyStream = Box<dyn FnMut() -> u64 + Send>;

/// Makes streams of user ids from seeds; cheap to clone.
#[derive(Clone)]
pub struct Keys {
    make: Arc<dyn Fn(u64) -> Workload + Send + Sync>,
    describe: String,
}

impl Keys {
    /// Keys with the popularity and recency of a measured web trace.
    pub fn fitted() -> Self {
        Self::new(|seed| Workload::profile(WEB07, seed))
    }

    /// The keys of a recorded trace in their order; every stream is the same.
    ///
    /// # Errors
    ///
    /// The file cannot be read, is empty, cut off or damaged.
    pub fn trace(file: &Path) -> Result<Self, TraceError> {
        let trace = Trace::open(file)?;
        Ok(Self::new(move |_| Workload::trace(trace.clone())))
    }

    /// Keys by Zipf's law.
    ///
    /// # Errors
    ///
    /// An exponent that is negative or not a number.
    pub fn zipf(exponent: f64) -> Result<Self, ZipfError> {
        let first = Workload::zipf(USERS, exponent, 1)?;
        let describe = first.to_string();
        // The exponent was accepted just now, so the fallback, the same sequence, is never taken.
        let make = move |seed| Workload::zipf(USERS, exponent, seed).unwrap_or_else(|_| first.again());
        Ok(Self { make: Arc::new(make), describe })
    }

    fn new(make: impl Fn(u64) -> Workload + Send + Sync + 'static) -> Self {
        let describe = make(1).to_string();
        Self { make: Arc::new(make), describe }
    }

    /// Where the keys come from, in one sentence.
    pub fn describe(&self) -> &str {
        &self.describe
    }

    /// The stream of `seed`: ids of users that are in the database.
    pub fn stream(&self, seed: u64) -> KeyStream {
        let mut workload = (self.make)(seed);
        Box::new(move || 1 + workload.next_row(USERS))
    }

    /// `GET /users/{id}` for one key after the other.
    pub fn reads(&self, seed: u64) -> impl FnMut() -> Request + Send + use<> {
        let mut stream = self.stream(seed);
        move || read(stream())
    }
}

/// `GET /users/{id}`.
pub fn read(id: u64) -> Request {
    Request::get(format!("/users/{id}")).key(id)
}

/// Each key once, in the order of its last appearance: what an ample cache holds after these reads.
pub fn latest(keys: impl IntoIterator<Item = u64>) -> Vec<u64> {
    let mut last = HashMap::new();
    for (at, key) in keys.into_iter().enumerate() {
        last.insert(key, at);
    }
    let mut keys: Vec<_> = last.into_iter().collect();
    keys.sort_by_key(|(_, at)| *at);
    keys.into_iter().map(|(key, _)| key).collect()
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Keys").field(&self.describe).finish()
    }
}
