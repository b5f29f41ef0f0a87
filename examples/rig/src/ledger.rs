//! The requirements ledger: what the story asks, which test proves it, and how the last run judged it.
//!
//! Each requirement has an id, r01 to r57, and each proof is a test function whose name begins with that id. So the
//! ledger cannot drift from the code: [`check`] compares its rows with the tests found in the sources.

mod check;
mod rows;
mod verdicts;

pub use check::{Drift, check, check_tree, tests_in};
pub use rows::ROWS;
pub use verdicts::{LastVerdict, VerdictsError, read_verdicts};

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// How far a requirement is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// No proof yet.
    Open,
    /// Tests prove it.
    Tested,
}

/// One requirement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// `r01` to `r57`.
    pub id: &'static str,
    /// What is asked, in one line.
    pub statement: &'static str,
    /// Where it shows: numbers of rungs, names of crates.
    pub place: &'static str,
    /// Whether tests prove it.
    pub status: Status,
    /// Names of the test functions that prove it.
    pub tests: &'static [&'static str],
}

/// The ledger as plain text: a line a row with the verdict of the last run beside it.
pub fn render(rows: &[Row], verdicts: &BTreeMap<String, LastVerdict>) -> String {
    let place_width = rows.iter().map(|row| row.place.chars().count()).max().unwrap_or(0).max(5);
    let mut text = format!("{:<4} {:<6}  {:<7}  {:<place_width$}  requirement\n", "id", "status", "climb", "where");
    for row in rows {
        let status = match row.status {
            Status::Open => "open",
            Status::Tested => "tested",
        };
        let verdict = verdicts.get(row.id).map_or("-".to_owned(), ToString::to_string);
        let engine = verdicts.get(row.id).and_then(|verdict| verdict.engine.as_ref());
        let engine = engine.map_or_else(String::new, |engine| format!(" (climbed on {engine})"));
        let (id, place, statement) = (row.id, row.place, row.statement);
        let _ = writeln!(text, "{id:<4} {status:<6}  {verdict:<7}  {place:<place_width$}  {statement}{engine}");
        for test in row.tests {
            let _ = writeln!(text, "{:<4} {:<6}  {:<7}  {:<place_width$}    {test}", "", "", "", "");
        }
    }
    let tested = rows.iter().filter(|row| row.status == Status::Tested).count();
    let failed = rows.iter().filter(|row| verdicts.get(row.id).is_some_and(LastVerdict::is_failed)).count();
    let _ = writeln!(text, "{tested} of {} tested, {failed} failed in the last climb", rows.len());
    text
}

#[cfg(test)]
mod tests;
