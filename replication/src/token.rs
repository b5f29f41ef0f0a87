//! A session as a short string: for a cookie, a header, a message in a queue.
//!
//! Bytes, written in the URL-safe alphabet of RFC 4648 section 5 without padding:
//!
//! ```text
//! version 1 | cluster 8, little endian | flags 1 | { shard, epoch, wrote, seen - wrote } as varints, ... | tag
//! ```
//!
//! The tag is a checksum of 4 bytes, or with a key a MAC of 16: BLAKE3, plain or keyed, over all before it. Without a
//! key a token is safe from accidents, and a client who makes one up can at most make its own reads slower or refused.

use std::fmt;

use thiserror::Error;

use crate::session::{MAX_MARKS, Mark, Session, State};
use crate::{ClusterId, Epoch, Lsn, ShardId};

/// The longest token: one that holds [`MAX_MARKS`] marks of the largest numbers.
pub const MAX_TOKEN_CHARS: usize = (HEAD_BYTES + MAX_MARKS * MAX_MARK_BYTES + KEYED_TAG_BYTES).div_ceil(3) * 4;

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 10;
/// A shard of 16 bits, and three numbers of 64.
const MAX_MARK_BYTES: usize = 3 + 3 * 10;
const PLAIN_TAG_BYTES: usize = 4;
const KEYED_TAG_BYTES: usize = 16;

const OVERFLOWED: u8 = 1;

/// Prints sessions as tokens and reads them back.
///
/// # Examples
/// ```
/// use tenfold_replication::{ClusterId, Epoch, Lsn, Position, Session, ShardId, TokenError, Tokens};
///
/// let tokens = Tokens::keyed(&[7; 32]);
/// let session = Session::new();
/// session.wrote(ClusterId(1), ShardId(0), Position::new(Epoch(2), Lsn(4096)))?;
///
/// let cookie = tokens.print(&session);
/// assert_eq!(cookie.len(), 42);
/// assert_eq!(tokens.parse(&cookie)?.position(ShardId(0)), session.position(ShardId(0)));
/// assert_eq!(Tokens::keyed(&[8; 32]).parse(&cookie).unwrap_err(), TokenError::Forged);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct Tokens {
    /// The first signs, all are accepted; none means a checksum.
    keys: Vec<[u8; 32]>,
}

/// A text that is no token of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TokenError {
    /// Longer than [`MAX_TOKEN_CHARS`], or too short, or with other characters.
    #[error("this is no session token")]
    Malformed,
    /// Of a version that this build does not read.
    #[error("session tokens of version {0} are not known")]
    Version(u8),
    /// The checksum does not fit, or what it protects makes no sense.
    #[error("the session token is damaged")]
    Damaged,
    /// The MAC fits none of the keys: changed on the way, or signed by somebody else.
    #[error("the session token is not signed by a known key")]
    Forged,
}

impl Tokens {
    /// Tokens with a checksum, which tells accidents.
    #[must_use]
    pub fn plain() -> Self {
        Self::default()
    }

    /// Tokens with a MAC under this key, which tells changes by anybody who does not have it.
    #[must_use]
    pub fn keyed(key: &[u8; 32]) -> Self {
        Self { keys: vec![*key] }
    }

    /// Reads tokens that were signed with this key as well, to change keys without ending sessions.
    ///
    /// Tokens that [`Tokens::plain`] reads get a key by it: such without one are refused from then on.
    #[must_use]
    pub fn accepting(mut self, old_key: &[u8; 32]) -> Self {
        self.keys.push(*old_key);
        self
    }

    /// The session as letters, digits, `-` and `_`; 26 to 42 of them for one shard without great numbers.
    #[must_use]
    pub fn print(&self, session: &Session) -> String {
        let state = session.state();
        let mut bytes = Vec::with_capacity(64);
        bytes.push(VERSION);
        bytes.extend_from_slice(&state.cluster.map_or(0, |cluster| cluster.0).to_le_bytes());
        bytes.push(if state.overflowed { OVERFLOWED } else { 0 });
        for mark in &state.marks {
            put_varint(&mut bytes, mark.shard.0.into());
            put_varint(&mut bytes, mark.epoch.0);
            put_varint(&mut bytes, mark.wrote.0);
            put_varint(&mut bytes, mark.seen.0.saturating_sub(mark.wrote.0));
        }
        let (tag, length) = tag(self.keys.first(), &bytes);
        bytes.extend_from_slice(&tag.as_bytes()[..length]);
        to_base64(&bytes)
    }

    /// The session of this token.
    ///
    /// # Errors
    /// [`TokenError`], whatever the text is. That a token is of another cluster, or of a time that a cluster does not
    /// know, shows when it is used.
    pub fn parse(&self, text: &str) -> Result<Session, TokenError> {
        if text.len() > MAX_TOKEN_CHARS {
            return Err(TokenError::Malformed);
        }
        let bytes = from_base64(text).ok_or(TokenError::Malformed)?;
        match bytes.first() {
            None => return Err(TokenError::Malformed),
            Some(&VERSION) => {}
            Some(&other) => return Err(TokenError::Version(other)),
        }
        let body = self.verified(&bytes)?;
        read_state(body).map(Session::from).ok_or(TokenError::Damaged)
    }

    /// What is before the tag, if the tag is right.
    fn verified<'a>(&self, bytes: &'a [u8]) -> Result<&'a [u8], TokenError> {
        let length = if self.keys.is_empty() { PLAIN_TAG_BYTES } else { KEYED_TAG_BYTES };
        let end = bytes.len().checked_sub(length).filter(|end| *end >= HEAD_BYTES).ok_or(TokenError::Malformed)?;
        let (body, found) = bytes.split_at(end);
        if self.keys.is_empty() {
            return if tag(None, body).0.as_bytes()[..length] == *found { Ok(body) } else { Err(TokenError::Damaged) };
        }
        let fits = |key| is_same(&tag(Some(key), body).0.as_bytes()[..length], found);
        if self.keys.iter().any(fits) { Ok(body) } else { Err(TokenError::Forged) }
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("keys", &self.keys.len()).finish()
    }
}

fn tag(key: Option<&[u8; 32]>, body: &[u8]) -> (blake3::Hash, usize) {
    match key {
        None => (blake3::hash(body), PLAIN_TAG_BYTES),
        Some(key) => (blake3::keyed_hash(key, body), KEYED_TAG_BYTES),
    }
}

/// Takes as long however many bytes are right.
fn is_same(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && left.iter().zip(right).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

fn read_state(body: &[u8]) -> Option<State> {
    let (head, mut rest) = body.split_at_checked(HEAD_BYTES)?;
    let cluster = ClusterId(u64::from_le_bytes(head[1..9].try_into().ok()?));
    let mut state = State { cluster: Some(cluster), marks: Vec::new(), overflowed: head[9] == OVERFLOWED };
    if head[9] > OVERFLOWED {
        return None;
    }
    while !rest.is_empty() {
        let shard = ShardId(u16::try_from(take_varint(&mut rest)?).ok()?);
        let epoch = Epoch(take_varint(&mut rest)?);
        let wrote = Lsn(take_varint(&mut rest)?);
        let seen = Lsn(wrote.0.checked_add(take_varint(&mut rest)?)?);
        let is_next = state.marks.last().is_none_or(|last| (last.shard, last.epoch) < (shard, epoch));
        if !is_next || state.marks.len() == MAX_MARKS {
            return None;
        }
        state.marks.push(Mark { shard, epoch, wrote, seen, elsewhere: seen });
    }
    if state.marks.is_empty() && !state.overflowed && cluster == ClusterId(0) {
        state.cluster = None;
    }
    Some(state)
}

/// Seven bits a byte, the lowest first, a set high bit where more follow.
fn put_varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return None;
        }
        number |= bits << shift;
        if byte < 0x80 {
            // One way to write each number, so that a token has one text.
            return (byte > 0 || shift == 0).then_some(number);
        }
    }
    None
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn to_base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let word = group.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..=group.len() {
            text.push(char::from(ALPHABET[(word >> (18 - 6 * place)) as usize & 63]));
        }
    }
    text
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 3);
    for group in text.as_bytes().chunks(4) {
        let mut word = 0u32;
        for letter in group {
            word = word << 6 | value_of(*letter)?;
        }
        word <<= 6 * (4 - group.len());
        let length = group.len() - 1;
        let decoded = word.to_be_bytes();
        let (kept, cut) = decoded[1..].split_at(length);
        // A single letter is no byte, and bits that stand for nothing are 0.
        if length == 0 || cut.iter().any(|byte| *byte != 0) {
            return None;
        }
        bytes.extend_from_slice(kept);
    }
    Some(bytes)
}

fn value_of(letter: u8) -> Option<u32> {
    let value = match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'-' => 62,
        b'_' => 63,
        _ => return None,
    };
    Some(value.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Position, Rng};

    fn random_session(rng: &mut Rng) -> Session {
        let session = Session::new();
        for _ in 0..rng.below(MAX_MARKS as u64 + 4) {
            let mut number = || {
                let bits = rng.below(65);
                rng.next_u64().checked_shr(64 - bits as u32).unwrap_or(0)
            };
            let (shard, position) = (ShardId(number() as u16), Position::new(Epoch(number()), Lsn(number())));
            if position.lsn.0 % 2 == 0 {
                session.wrote(ClusterId(9), shard, position).unwrap();
            }
            session.saw(ClusterId(9), shard, position).unwrap();
        }
        session
    }

    #[test]
    fn what_is_printed_is_read_back() {
        let mut rng = Rng::new(1);
        for tokens in [Tokens::plain(), Tokens::keyed(&[3; 32])] {
            for _ in 0..300 {
                let session = random_session(&mut rng);
                let text = tokens.print(&session);
                assert!(text.len() <= MAX_TOKEN_CHARS && text.bytes().all(|byte| value_of(byte).is_some()));
                assert_eq!(tokens.parse(&text).unwrap().state(), session.state());
            }
            assert_eq!(tokens.parse(&tokens.print(&Session::new())).unwrap().state(), State::default());
        }
    }

    #[test]
    fn the_base64_is_that_of_the_rfc() {
        for (bytes, text) in [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg")] {
            assert_eq!(to_base64(bytes.as_bytes()), text);
            assert_eq!(from_base64(text).unwrap(), bytes.as_bytes());
        }
        assert!(from_base64("Zh").is_none() && from_base64("Z").is_none() && from_base64("Zm9+").is_none());
    }

    /// One letter changed, added or taken away anywhere, one bit flipped anywhere: never another session, never a panic.
    #[test]
    fn no_damage_gets_through() {
        let mut rng = Rng::new(2);
        for tokens in [Tokens::plain(), Tokens::keyed(&[3; 32])] {
            let mut session = Session::new();
            while !(2..8).contains(&session.state().marks.len()) {
                session = random_session(&mut rng);
            }
            let text = tokens.print(&session);
            for place in 0..text.len() {
                for letter in ALPHABET.iter().step_by(7) {
                    let mut changed = text.clone().into_bytes();
                    changed[place] = *letter;
                    let changed = String::from_utf8(changed).unwrap();
                    assert!(changed == text || tokens.parse(&changed).is_err(), "{changed}");
                }
                assert!(tokens.parse(&text[..place]).is_err());
            }
            assert!(tokens.parse(&(text + "A")).is_err());
        }
    }

    #[test]
    fn no_text_panics() {
        let mut rng = Rng::new(3);
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..rng.below(40)).map(|_| rng.next_u64() as u8).collect();
            let _ = read_state(&bytes);
            let _ = Tokens::plain().parse(&to_base64(&bytes));
            let _ = Tokens::plain().parse(&String::from_utf8_lossy(&bytes));
        }
        assert_eq!(Tokens::plain().parse("").unwrap_err(), TokenError::Malformed);
        assert_eq!(Tokens::plain().parse(&"A".repeat(MAX_TOKEN_CHARS + 1)).unwrap_err(), TokenError::Malformed);
        assert_eq!(Tokens::plain().parse("AgAA").unwrap_err(), TokenError::Version(2));
    }

    #[test]
    fn a_key_cannot_be_left_out_and_can_be_changed() {
        let session = Session::new();
        session.wrote(ClusterId(1), ShardId(0), Position::new(Epoch(1), Lsn(1))).unwrap();
        let (old, new) = (Tokens::keyed(&[1; 32]), Tokens::keyed(&[2; 32]).accepting(&[1; 32]));
        assert!(new.parse(&old.print(&session)).is_ok() && new.parse(&new.print(&session)).is_ok());
        assert_eq!(old.parse(&new.print(&session)).unwrap_err(), TokenError::Forged);
        assert!(old.parse(&Tokens::plain().print(&session)).is_err());
        assert!(Tokens::plain().parse(&old.print(&session)).is_err());
    }
}
