//! The text form of a list of backends, as in a file.
//!
//! ```text
//! # primary pool
//! 10.0.0.1:8080 weight=3 zone=eu-1a name=web-1
//! [fd00::7]:8080 zone=eu-1b
//! # backup
//! 10.1.0.1:8080 priority=1
//! ```

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;

use crate::{Backend, BackendId, Zone};

#[cfg(test)]
mod tests;

/// Reads a list of backends: a line each, an address and then `weight=N`, `priority=N`, `zone=NAME`, `name=NAME` in
/// any order, at most once. Space around is ignored, and so is everything from `#` on. The defaults are those of
/// [`Backend::new`].
///
/// Deliberately strict, since a list that is half understood sends traffic to the wrong place: whatever is unknown,
/// repeated, zero or out of range is an error that names its line. A text without a backend is an empty list.
///
/// # Examples
/// ```
/// use tenfold_load_balancer::parse_backends;
///
/// let backends = parse_backends("10.0.0.1:80 weight=2  # the large one\n\n10.0.0.2:80\n")?;
/// assert_eq!(backends[0].weight(), 2);
/// assert_eq!(parse_backends("10.0.0.1:80\n10.0.0.2:80 weight=0").unwrap_err().line().map(|line| line.get()), Some(2));
/// # Ok::<(), tenfold_load_balancer::ParseBackendsError>(())
/// ```
///
/// # Errors
/// [`ParseBackendsError`] for the first line that does not fit.
pub fn parse_backends(text: &str) -> Result<Vec<Backend>, ParseBackendsError> {
    let mut first_lines = BTreeMap::new();
    let mut backends = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let number = number(index);
        let Some(backend) = parse_line(line).map_err(|kind| ParseBackendsError { line: Some(number), kind })? else {
            continue;
        };
        note_first(&mut first_lines, &backend, number)?;
        backends.push(backend);
    }
    Ok(backends)
}

/// Refuses a backend that has the address or the id of an earlier one.
fn note_first(
    first_lines: &mut BTreeMap<Known, NonZeroU32>,
    backend: &Backend,
    line: NonZeroU32,
) -> Result<(), ParseBackendsError> {
    let known = [
        (
            Known::Address(backend.address()),
            ParseBackendsErrorKind::DuplicateAddress as fn(NonZeroU32) -> ParseBackendsErrorKind,
        ),
        (Known::Id(backend.id()), ParseBackendsErrorKind::DuplicateName),
    ];
    for (known, kind) in known {
        if let Some(&first) = first_lines.get(&known) {
            return Err(ParseBackendsError { line: Some(line), kind: kind(first) });
        }
        first_lines.insert(known, line);
    }
    Ok(())
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Known {
    Address(SocketAddr),
    Id(BackendId),
}

fn parse_line(line: &str) -> Result<Option<Backend>, ParseBackendsErrorKind> {
    let content = line.split_once('#').map_or(line, |(content, _)| content);
    let mut words = content.split_ascii_whitespace();
    let Some(address) = words.next() else { return Ok(None) };
    let mut fields = Fields::default();
    let address: SocketAddr = address.parse().map_err(|_| ParseBackendsErrorKind::Address)?;
    if address.port() == 0 {
        return Err(ParseBackendsErrorKind::Port);
    }
    for word in words {
        fields.read(word)?;
    }
    Ok(Some(fields.backend(address)))
}

/// What stands behind the address.
#[derive(Default)]
struct Fields<'a> {
    weight: Option<NonZeroU32>,
    priority: Option<u8>,
    zone: Option<&'a str>,
    name: Option<&'a str>,
}

impl<'a> Fields<'a> {
    fn read(&mut self, word: &'a str) -> Result<(), ParseBackendsErrorKind> {
        let (key, value) = word.split_once('=').ok_or(ParseBackendsErrorKind::UnknownField)?;
        match key {
            "weight" => set(&mut self.weight, parse_digits(value).ok_or(ParseBackendsErrorKind::Weight)?),
            "priority" => set(&mut self.priority, parse_digits(value).ok_or(ParseBackendsErrorKind::Priority)?),
            "zone" => set(&mut self.zone, named(value)?),
            "name" => set(&mut self.name, named(value)?),
            _ => Err(ParseBackendsErrorKind::UnknownField),
        }
    }

    fn backend(self, address: SocketAddr) -> Backend {
        let mut backend = Backend::new(address);
        if let Some(weight) = self.weight {
            backend = backend.with_weight(weight.get());
        }
        if let Some(priority) = self.priority {
            backend = backend.with_priority(priority);
        }
        if let Some(zone) = self.zone {
            backend = backend.with_zone(Zone::new(zone));
        }
        if let Some(name) = self.name {
            backend = backend.with_name(name);
        }
        backend
    }
}

fn set<T>(field: &mut Option<T>, value: T) -> Result<(), ParseBackendsErrorKind> {
    if field.replace(value).is_some() { Err(ParseBackendsErrorKind::RepeatedField) } else { Ok(()) }
}

/// Digits alone: the standard library would take a sign as well.
fn parse_digits<N: std::str::FromStr>(value: &str) -> Option<N> {
    value.bytes().all(|byte| byte.is_ascii_digit()).then(|| value.parse().ok()).flatten()
}

fn named(value: &str) -> Result<&str, ParseBackendsErrorKind> {
    if value.is_empty() { Err(ParseBackendsErrorKind::EmptyName) } else { Ok(value) }
}

/// A list of backends that does not parse: where, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{kind}", Position(*line))]
pub struct ParseBackendsError {
    line: Option<NonZeroU32>,
    kind: ParseBackendsErrorKind,
}

impl ParseBackendsError {
    /// The line, from 1; `None` if the text as a whole is wrong.
    #[must_use]
    pub const fn line(&self) -> Option<NonZeroU32> {
        self.line
    }

    /// What is wrong.
    #[must_use]
    pub const fn kind(&self) -> ParseBackendsErrorKind {
        self.kind
    }

    pub(crate) const fn whole(kind: ParseBackendsErrorKind) -> Self {
        Self { line: None, kind }
    }

    /// Not UTF-8 behind these bytes.
    pub(crate) fn not_utf8(before: &[u8]) -> Self {
        let lines = before.iter().filter(|byte| **byte == b'\n').count();
        Self { line: Some(number(lines)), kind: ParseBackendsErrorKind::NotUtf8 }
    }
}

/// The number of the line with this index.
fn number(line_index: usize) -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(u32::try_from(line_index).unwrap_or(u32::MAX))
}

struct Position(Option<NonZeroU32>);

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.map_or(Ok(()), |line| write!(f, "line {line}: "))
    }
}

/// What is wrong with a list of backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseBackendsErrorKind {
    /// It does not begin with an IP address and a port.
    #[error("not an address and a port")]
    Address,
    /// The port is 0, to which nothing can be sent.
    #[error("port 0 is nobody's")]
    Port,
    /// The weight is not a number from 1 to 4,294,967,295.
    #[error("the weight is not a number from 1 to 4294967295")]
    Weight,
    /// The priority is not a number from 0 to 255.
    #[error("the priority is not a number from 0 to 255")]
    Priority,
    /// A zone or name is empty.
    #[error("an empty zone or name")]
    EmptyName,
    /// There is another word than `weight=`, `priority=`, `zone=` and `name=`.
    #[error("an unknown field")]
    UnknownField,
    /// A field is given twice.
    #[error("a field is given twice")]
    RepeatedField,
    /// An earlier line, this one, has the same address.
    #[error("the address of line {0} again")]
    DuplicateAddress(NonZeroU32),
    /// An earlier line, this one, has the same name.
    #[error("the name of line {0} again")]
    DuplicateName(NonZeroU32),
    /// It is not UTF-8.
    #[error("not UTF-8")]
    NotUtf8,
    /// The text as a whole is longer than is read.
    #[error("the list is too long")]
    TooLong,
}
