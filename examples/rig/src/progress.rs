//! Where the plain lines of a running climb go.

use std::fmt;
use std::sync::Arc;

/// A sink for lines; the caller decides whether they are printed, kept or dropped.
#[derive(Clone)]
pub struct Progress {
    write: Arc<dyn Fn(&str) + Send + Sync>,
}

impl Progress {
    /// Hands every line to `write`.
    pub fn new(write: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self { write: Arc::new(write) }
    }

    /// Drops every line.
    pub fn silent() -> Self {
        Self::new(|_| {})
    }

    /// Writes one line, given without its end.
    pub fn line(&self, line: &str) {
        (self.write)(line);
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::silent()
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress").finish_non_exhaustive()
    }
}
