//! Does the ledger say what the sources prove?

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::{Row, Status};

/// Requirements there are.
const ROW_COUNT: usize = 57;
/// Most files looked at: an end for a tree that is not this project.
const MAX_FILES: usize = 10_000;

/// A difference between the ledger and the sources.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Error)]
#[non_exhaustive]
pub enum Drift {
    /// The ledger has no row with this id.
    #[error("{id} has no row in the ledger")]
    MissingRow {
        /// The id.
        id: String,
    },
    /// The ledger has two rows with this id, or one that is none of r01 to r57.
    #[error("the row {id} appears twice or has no place in the ledger")]
    StrayRow {
        /// The id.
        id: String,
    },
    /// A row counts as tested and names no test.
    #[error("{id} is not open, yet names no test")]
    NoTest {
        /// The id.
        id: String,
    },
    /// A row is open and names tests.
    #[error("{id} is open, yet names a test")]
    OpenWithTest {
        /// The id.
        id: String,
    },
    /// A row names a test that does not exist or is named after another row.
    #[error("{id} names the test {test}, which is not in the sources or has another row's name")]
    UnknownTest {
        /// The id.
        id: String,
        /// The name given.
        test: String,
    },
    /// A test is named after a requirement and that row does not name it.
    #[error("the test {test} in {} is not in the ledger", file.display())]
    UnlistedTest {
        /// The function.
        test: String,
        /// Where it is.
        file: PathBuf,
    },
}

/// Names of the test functions in a Rust source whose names begin with a requirement's id: `r04_…`.
///
/// A function counts if an attribute that ends in `test` or begins with `test(` stands above it.
pub fn tests_in(source: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut is_test = false;
    for line in source.lines().map(str::trim) {
        if let Some(attribute) = line.strip_prefix("#[") {
            let path = attribute.split(['(', ']']).next().unwrap_or("").trim();
            is_test |= path == "test" || path.ends_with("::test");
        } else if let Some(name) = function_name(line) {
            if is_test && row_of(name).is_some() {
                names.push(name.to_owned());
            }
            is_test = false;
        } else if !line.is_empty() && !line.starts_with("//") {
            is_test = false;
        }
    }
    names
}

/// The differences between `rows` and the tests in these sources, given as path and content.
///
/// Empty where every id has one row, every row that is not open names tests that exist, and every test named after a
/// requirement is named by its row.
pub fn check<'a>(rows: &[Row], sources: impl IntoIterator<Item = (&'a Path, &'a str)>) -> Vec<Drift> {
    let mut found: BTreeMap<String, PathBuf> = BTreeMap::new();
    for (path, source) in sources {
        for test in tests_in(source) {
            found.entry(test).or_insert_with(|| path.to_path_buf());
        }
    }
    let mut drift = Vec::new();
    let mut missing: BTreeSet<String> = (1..=ROW_COUNT).map(|number| format!("r{number:02}")).collect();
    let mut listed = BTreeSet::new();
    for row in rows {
        let id = row.id.to_owned();
        if !missing.remove(row.id) {
            drift.push(Drift::StrayRow { id: id.clone() });
        }
        match (row.status, row.tests.is_empty()) {
            (Status::Tested, true) => drift.push(Drift::NoTest { id: id.clone() }),
            (Status::Open, false) => drift.push(Drift::OpenWithTest { id: id.clone() }),
            _ => {}
        }
        for test in row.tests {
            listed.insert((*test).to_owned());
            if row_of(test) != Some(row.id) || !found.contains_key(*test) {
                drift.push(Drift::UnknownTest { id: id.clone(), test: (*test).to_owned() });
            }
        }
    }
    drift.extend(missing.into_iter().map(|id| Drift::MissingRow { id }));
    let unlisted = found.into_iter().filter(|(test, _)| !listed.contains(test));
    drift.extend(unlisted.map(|(test, file)| Drift::UnlistedTest { test, file }));
    drift.sort();
    drift
}

/// [`check`] over every Rust source below `root`, build output and hidden folders left out.
///
/// # Errors
/// A folder or a source cannot be read, or there are too many of them.
pub fn check_tree(rows: &[Row], root: impl AsRef<Path>) -> io::Result<Vec<Drift>> {
    let mut folders = vec![root.as_ref().to_path_buf()];
    let mut sources: Vec<(PathBuf, String)> = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let (kind, path) = (entry.file_type()?, entry.path());
            let name = entry.file_name();
            if kind.is_dir() && name != "target" && !name.as_encoded_bytes().starts_with(b".") {
                folders.push(path);
            } else if kind.is_file() && path.extension().is_some_and(|extension| extension == "rs") {
                if sources.len() == MAX_FILES {
                    return Err(io::Error::other("more sources than a project of this kind has"));
                }
                let source = fs::read_to_string(&path)?;
                sources.push((path, source));
            }
        }
    }
    sources.sort();
    Ok(check(rows, sources.iter().map(|(path, source)| (path.as_path(), source.as_str()))))
}

/// The id a test's name begins with.
fn row_of(name: &str) -> Option<&str> {
    let (id, rest) = name.split_at_checked(3)?;
    let digits = id.strip_prefix('r')?;
    (digits.bytes().all(|b| b.is_ascii_digit()) && rest.starts_with('_')).then_some(id)
}

/// The name of the function that this line begins, if it does.
fn function_name(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    while let Some(word) = words.next() {
        match word {
            "pub" | "pub(crate)" | "pub(super)" | "async" | "unsafe" | "const" => {}
            "fn" => return words.next()?.split(['(', '<']).next(),
            _ => return None,
        }
    }
    None
}
