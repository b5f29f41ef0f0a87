//! What the last climb said about each requirement.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

use crate::report::Verdict;

/// Claims of one requirement in the last climb.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastVerdict {
    /// Claims that held.
    pub passed: u32,
    /// Claims that did not.
    pub failed: u32,
    /// The program that did the work, where the climb may run on more than one.
    pub engine: Option<String>,
}

impl LastVerdict {
    /// Whether any claim failed.
    pub fn is_failed(&self) -> bool {
        self.failed > 0
    }
}

impl fmt::Display for LastVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, count) = if self.failed > 0 { ("FAIL", self.failed) } else { ("pass", self.passed) };
        if count > 1 { write!(f, "{word} {count}") } else { f.write_str(word) }
    }
}

/// Why the verdicts of the last climb cannot be had.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum VerdictsError {
    /// The report cannot be read.
    #[error("the report {} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is no report of a climb.
    #[error("{} is not a report of a climb, see line {line}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where it stops making sense, from 1.
        line: usize,
    },
}

/// Only what the ledger needs, so that reports of other versions can be read too.
#[derive(Deserialize)]
struct Judged {
    #[serde(default)]
    rungs: Vec<JudgedRung>,
}

#[derive(Deserialize)]
struct JudgedRung {
    #[serde(default)]
    engine: Option<String>,
    #[serde(default)]
    claims: Vec<JudgedClaim>,
}

#[derive(Deserialize)]
struct JudgedClaim {
    id: String,
    verdict: Verdict,
}

/// Reads the verdicts, by requirement, from a `report.json`; none if there is no such file.
///
/// # Errors
/// The file exists and cannot be read, or is no report.
pub fn read_verdicts(path: impl AsRef<Path>) -> Result<BTreeMap<String, LastVerdict>, VerdictsError> {
    let path = path.as_ref();
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(source) => return Err(VerdictsError::Read { path: path.to_path_buf(), source }),
    };
    let judged: Judged = serde_json::from_str(&text)
        .map_err(|error| VerdictsError::Malformed { path: path.to_path_buf(), line: error.line() })?;
    let mut verdicts: BTreeMap<String, LastVerdict> = BTreeMap::new();
    for rung in judged.rungs {
        for claim in rung.claims {
            let verdict = verdicts.entry(claim.id).or_default();
            match claim.verdict {
                Verdict::Pass => verdict.passed += 1,
                Verdict::Fail => verdict.failed += 1,
            }
            verdict.engine = rung.engine.clone().or_else(|| verdict.engine.take());
        }
    }
    Ok(verdicts)
}
