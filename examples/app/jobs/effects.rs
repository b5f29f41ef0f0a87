//! What arrived in the world outside: each effect by its key, and how often it was only repeated.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::job::JobKey;

/// The effects of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Those that took place.
    pub once: BTreeSet<JobKey>,
    /// How often one that had taken place was asked for again, and was not repeated.
    pub repeated: u64,
}

/// All effects, by kind.
#[derive(Debug, Default)]
pub struct Effects(Mutex<BTreeMap<&'static str, Done>>);

impl Effects {
    /// Notes an effect. False if it took place before: then it must not again.
    pub fn note(&self, kind: &'static str, key: JobKey) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let done = all.entry(kind).or_default();
        let is_new = done.once.insert(key);
        done.repeated += u64::from(!is_new);
        is_new
    }

    /// The effects of one kind.
    pub fn of(&self, kind: &str) -> Done {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(kind).cloned().unwrap_or_default()
    }

    /// All of them.
    pub fn all(&self) -> BTreeMap<String, Done> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|(kind, done)| ((*kind).to_owned(), done.clone())).collect()
    }
}
