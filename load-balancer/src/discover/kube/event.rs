//! What a line of a watch says. By itself, for the fuzzer.

use serde::Deserialize;

use super::slices::Slice;

/// What happened to a slice, or to the watch.
#[derive(Debug)]
pub(crate) enum Event {
    /// It is new or has changed.
    Put(Slice),
    /// It is gone.
    Delete(Slice),
    /// The watch has come to this version.
    Bookmark(String),
}

/// Why a line is no event.
#[derive(Debug)]
pub(crate) enum BadEvent {
    /// It is not what an API server sends.
    Json(serde_json::Error),
    /// The server ends the watch with this status; 0 if it names none.
    Status(u16),
}

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "type")]
    kind: String,
    object: serde_json::Value,
}

/// `None` for kinds of events that are not known.
pub(crate) fn parse(line: &[u8]) -> Result<Option<Event>, BadEvent> {
    if line.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    let line: Line = serde_json::from_slice(line).map_err(BadEvent::Json)?;
    if line.kind == "ERROR" {
        let code = line.object.get("code").and_then(serde_json::Value::as_u64);
        return Err(BadEvent::Status(code.and_then(|code| u16::try_from(code).ok()).unwrap_or(0)));
    }
    let slice: Slice = serde_json::from_value(line.object).map_err(BadEvent::Json)?;
    Ok(match line.kind.as_str() {
        "ADDED" | "MODIFIED" => Some(Event::Put(slice)),
        "DELETED" => Some(Event::Delete(slice)),
        "BOOKMARK" => Some(Event::Bookmark(slice.metadata.resource_version)),
        _ => None,
    })
}
