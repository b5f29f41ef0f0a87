//! The first line of an answer to a probe. By itself, for the fuzzer.

/// The status of an answer that begins so.
// RFC 9112 section 4: status-line = HTTP-version SP status-code SP [ reason-phrase ]
pub(crate) fn parse_status(head: &[u8]) -> Option<u16> {
    let line = head.split(|byte| *byte == b'\n').next().filter(|line| line.len() < head.len())?;
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let rest = line.strip_prefix(b"HTTP/1.")?;
    let [b'0'..=b'9', b' ', code @ ..] = rest else { return None };
    let (code, after) = code.split_at_checked(3)?;
    let is_status = code.iter().all(u8::is_ascii_digit) && matches!(after, [] | [b' ', ..]);
    let digits = code.iter().map(|digit| u16::from(digit - b'0'));
    is_status.then(|| digits.fold(0, |status, digit| status * 10 + digit))
}
