//! Runs a binary, and makes trace files for it.

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

/// What a run left behind.
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) rows: Vec<Value>,
    pub(crate) complaint: String,
}

/// Runs a binary and parses every line of its output as JSON.
#[track_caller]
pub(crate) fn rows(binary: &str, arguments: &[&str]) -> Run {
    let output = output(binary, arguments);
    let text = String::from_utf8(output.stdout).unwrap();
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"));
    Run {
        code: output.status.code(),
        rows: text.lines().map(parse).collect(),
        complaint: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs a binary.
pub(crate) fn output(binary: &str, arguments: &[&str]) -> Output {
    Command::new(binary).args(arguments).output().unwrap()
}

/// The names that `--list` prints.
pub(crate) fn list(binary: &str) -> Vec<String> {
    let output = output(binary, &["--list"]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// Asserts that a bad command line gives exit code 2, no row, and a complaint with the given words.
#[track_caller]
pub(crate) fn refused(binary: &str, arguments: &[&str], words: &str) {
    let run = rows(binary, arguments);
    assert_eq!(run.code, Some(2), "{arguments:?}: {}", run.complaint);
    assert!(run.rows.is_empty(), "{arguments:?}: {:?}", run.rows);
    assert!(run.complaint.contains(words), "{arguments:?}: {}", run.complaint);
}

/// Asserts that a row has exactly these fields, in this order being no matter.
#[track_caller]
pub(crate) fn has_fields(row: &Value, fields: &[&str]) {
    let object = row.as_object().unwrap();
    let mut found: Vec<&str> = object.keys().map(String::as_str).collect();
    let mut expected = fields.to_vec();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

/// A file of the given content, in a place of its own by name.
pub(crate) fn file(name: &str, content: &[u8]) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, content).unwrap();
    path
}

/// The content of the trace file of some keys.
pub(crate) fn encode(keys: &[u64]) -> Vec<u8> {
    let mut previous = 0_u64;
    let mut words = Vec::new();
    for &key in keys {
        words.extend(key.wrapping_sub(previous).to_le_bytes());
        previous = key;
    }
    compress(&words)
}

/// zstd with a checksum, as its command line tool writes it.
pub(crate) fn compress(content: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.include_checksum(true).unwrap();
    std::io::Write::write_all(&mut encoder, content).unwrap();
    encoder.finish().unwrap()
}
