//! Durations in configuration files: `"5m"`, `"1h 30m"`, `"250ms"`, or a number of seconds.

use std::fmt;
use std::time::Duration;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serializer};

const UNITS: [(&str, u64); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// For a field that is a `Duration`.
pub(crate) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&write(*duration))
}

/// For a field that is a `Duration`.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    Read::deserialize(deserializer).map(|read| read.0)
}

/// The largest units first, none twice; exact.
fn write(duration: Duration) -> String {
    let mut left = duration.as_nanos();
    let mut parts = Vec::new();
    for (name, nanos) in UNITS.iter().rev() {
        let count = left / u128::from(*nanos);
        left %= u128::from(*nanos);
        if count > 0 {
            parts.push(format!("{count}{name}"));
        }
    }
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

fn read(text: &str) -> Option<Duration> {
    let mut sum = Duration::ZERO;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let count: u64 = rest[..digits].parse().ok()?;
        rest = rest[digits..].trim_start();
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let (_, nanos) = UNITS.iter().find(|(name, _)| *name == &rest[..letters])?;
        let part = u128::from(count) * u128::from(*nanos);
        let seconds = u64::try_from(part / 1_000_000_000).ok()?;
        let nanos = u32::try_from(part % 1_000_000_000).ok()?;
        sum = sum.checked_add(Duration::new(seconds, nanos))?;
        rest = rest[letters..].trim_start();
    }
    Some(sum)
}

struct Read(Duration);

impl<'de> Deserialize<'de> for Read {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ReadVisitor)
    }
}

struct ReadVisitor;

impl Visitor<'_> for ReadVisitor {
    type Value = Read;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration like \"5m\", \"1h 30m\" or \"250ms\", or a number of seconds")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Read, E> {
        read(text).map(Read).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
    }

    fn visit_u64<E: Error>(self, seconds: u64) -> Result<Read, E> {
        Ok(Read(Duration::from_secs(seconds)))
    }

    fn visit_i64<E: Error>(self, seconds: i64) -> Result<Read, E> {
        let seconds = u64::try_from(seconds);
        seconds.map(|s| Read(Duration::from_secs(s))).map_err(|_| E::custom("a duration is not negative"))
    }

    fn visit_f64<E: Error>(self, seconds: f64) -> Result<Read, E> {
        Duration::try_from_secs_f64(seconds).map(Read).map_err(E::custom)
    }
}

/// For a field that may be none.
pub(crate) mod option {
    use super::{Deserialize, Deserializer, Duration, Read, Serializer, write};

    pub(crate) fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => serializer.serialize_some(&write(*duration)),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<Read>::deserialize(deserializer)?.map(|read| read.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        for nanos in [0, 1, 999, 1_000, 250_000_000, 60_000_000_000, 5_400_000_000_001, u64::MAX] {
            let duration = Duration::from_nanos(nanos);
            assert_eq!(read(&write(duration)), Some(duration), "{}", write(duration));
        }
        assert_eq!(write(Duration::from_secs(5_400)), "1h 30m");
        assert_eq!(read(&write(Duration::MAX)), Some(Duration::MAX));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in
            ["", "5", "m", "5 minutes", "-5s", "5m 5", "99999999999999999999s", "5m,5s", "18446744073709551615d"]
        {
            assert_eq!(read(text), None, "{text:?}");
        }
    }
}
