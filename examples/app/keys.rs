//! Which users are asked for, and the requests that ask.

use std::sync::Arc;

use tenfold_rig::Request;

/// A stream of user ids.
pub type KeyStream = Box<dyn FnMut() -> u64 + Send>;

/// Makes streams of user ids from seeds; cheap to clone.
#[derive(Clone)]
pub struct Keys {
    make: Arc<dyn Fn(u64) -> KeyStream + Send + Sync>,
    describe: String,
}

impl Keys {
    /// Streams made by `make`; `describe` says in one sentence where they come from.
    pub fn new(describe: impl Into<String>, make: impl Fn(u64) -> KeyStream + Send + Sync + 'static) -> Self {
        Self { make: Arc::new(make), describe: describe.into() }
    }

    /// Where the keys come from, in one sentence.
    pub fn describe(&self) -> &str {
        &self.describe
    }

    /// The stream of `seed`.
    pub fn stream(&self, seed: u64) -> KeyStream {
        (self.make)(seed)
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

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Keys").field(&self.describe).finish()
    }
}
