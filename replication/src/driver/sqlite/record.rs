//! The bytes of the log: records in files, each bound to the one before.
//!
//! ```text
//! file:    magic 8 | lsn 8 | epoch 8 | chain 16 | check 8         where the log is before its first record
//! record:  length 4 | check of it 4 | lsn 8 | epoch 8 | kind 1 | payload | chain 16
//! ```
//!
//! All numbers are little-endian; the length is that of lsn to payload. The chain of a record is a hash of itself and of
//! the chain before it: two logs that have the same chain at a place are the same up to there, and a record that was
//! moved, doubled or left out does not fit.
//!
//! Appends are synced one after the other, so only the last of them can be torn. What does not fit is a torn end if it
//! is cut off, zero, or the last record; anywhere else it is damage, and never cut silently.

use std::io::{self, Read};

use crate::{Epoch, Lsn};

pub(super) const HEADER_BYTES: usize = 48;
/// The longest record that is believed.
pub(super) const MAX_RECORD_BYTES: u32 = 1 << 30;

const MAGIC: &[u8; 8] = b"tfrepl1\n";
const FIXED_BYTES: usize = 17;
const CHAIN_BYTES: usize = 16;

pub(super) type Chain = [u8; CHAIN_BYTES];

/// How far a log is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tail {
    pub(super) lsn: Lsn,
    /// Of the record there.
    pub(super) epoch: Epoch,
    pub(super) chain: Chain,
}

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Rows, as a transaction left them.
    Changes = 1,
    /// Statements that change the schema.
    Schema = 2,
}

/// One committed transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) at: Tail,
    pub(super) kind: Kind,
    pub(super) payload: Vec<u8>,
}

/// What does not fit.
#[derive(Debug)]
pub(super) enum Flaw {
    /// The end, as a crash leaves it.
    Torn,
    Damaged,
    Io(io::Error),
}

impl From<io::Error> for Flaw {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Record {
    /// The record after `tail`.
    pub(super) fn after(tail: Tail, epoch: Epoch, kind: Kind, payload: Vec<u8>) -> Self {
        let lsn = Lsn(tail.lsn.0 + 1);
        let chain = chain(&tail.chain, lsn, epoch, kind, &payload);
        Self { at: Tail { lsn, epoch, chain }, kind, payload }
    }

    /// Whether it is the one after `tail`, and whole.
    pub(super) fn follows(&self, tail: Tail) -> bool {
        let Tail { lsn, epoch, chain: mine } = self.at;
        lsn.0 == tail.lsn.0 + 1
            && epoch >= tail.epoch
            && mine == chain(&tail.chain, lsn, epoch, self.kind, &self.payload)
    }

    pub(super) fn encoded_len(&self) -> usize {
        8 + FIXED_BYTES + self.payload.len() + CHAIN_BYTES
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let length = u32::try_from(FIXED_BYTES + self.payload.len()).expect("transactions are limited to less");
        out.extend(length.to_le_bytes());
        out.extend(check(&length.to_le_bytes()));
        out.extend(self.at.lsn.0.to_le_bytes());
        out.extend(self.at.epoch.0.to_le_bytes());
        out.push(self.kind as u8);
        out.extend(&self.payload);
        out.extend(self.at.chain);
    }

    /// The next record of a file, and `None` at its end.
    pub(super) fn read(from: &mut impl Read, tail: Tail) -> Result<Option<Self>, Flaw> {
        let mut head = [0; 8];
        match fill(from, &mut head)? {
            0 => return Ok(None),
            8 => {}
            _ => return Err(Flaw::Torn),
        }
        if head == [0; 8] {
            return Err(if is_zero(from)? { Flaw::Torn } else { Flaw::Damaged });
        }
        let length = u32::from_le_bytes(array(&head[..4]));
        let is_believed = (FIXED_BYTES..=MAX_RECORD_BYTES as usize).contains(&(length as usize));
        if head[4..] != check(&head[..4]) || !is_believed {
            return Err(Flaw::Damaged);
        }
        let whole = length as usize + CHAIN_BYTES;
        let mut body = Vec::new();
        if from.take(whole as u64).read_to_end(&mut body)? < whole {
            return Err(Flaw::Torn);
        }
        let record = Self::parse(&body).filter(|record| record.follows(tail));
        match record {
            Some(record) => Ok(Some(record)),
            None if fill(from, &mut [0])? == 0 => Err(Flaw::Torn),
            None => Err(Flaw::Damaged),
        }
    }

    fn parse(body: &[u8]) -> Option<Self> {
        let (fixed, rest) = body.split_at_checked(FIXED_BYTES)?;
        let (payload, chain) = rest.split_last_chunk()?;
        let kind = match fixed[16] {
            1 => Kind::Changes,
            2 => Kind::Schema,
            _ => return None,
        };
        let lsn = Lsn(u64::from_le_bytes(array(&fixed[..8])));
        let epoch = Epoch(u64::from_le_bytes(array(&fixed[8..16])));
        Some(Self { at: Tail { lsn, epoch, chain: *chain }, kind, payload: payload.to_vec() })
    }
}

impl Tail {
    /// The header of a file that goes on from here.
    pub(super) fn encode_header(self) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[..8].copy_from_slice(MAGIC);
        header[8..16].copy_from_slice(&self.lsn.0.to_le_bytes());
        header[16..24].copy_from_slice(&self.epoch.0.to_le_bytes());
        header[24..40].copy_from_slice(&self.chain);
        let check: [u8; 8] = array(&blake3::hash(&header[..40]).as_bytes()[..8]);
        header[40..].copy_from_slice(&check);
        header
    }

    pub(super) fn decode_header(header: &[u8; HEADER_BYTES]) -> Option<Self> {
        let lsn = Lsn(u64::from_le_bytes(array(&header[8..16])));
        let epoch = Epoch(u64::from_le_bytes(array(&header[16..24])));
        let tail = Self { lsn, epoch, chain: array(&header[24..40]) };
        (tail.encode_header() == *header).then_some(tail)
    }
}

fn chain(before: &Chain, lsn: Lsn, epoch: Epoch, kind: Kind, payload: &[u8]) -> Chain {
    let mut hasher = blake3::Hasher::new();
    hasher.update(before);
    hasher.update(&lsn.0.to_le_bytes());
    hasher.update(&epoch.0.to_le_bytes());
    hasher.update(&[kind as u8]);
    hasher.update(payload);
    array(&hasher.finalize().as_bytes()[..CHAIN_BYTES])
}

fn check(length: &[u8]) -> [u8; 4] {
    array(&blake3::hash(length).as_bytes()[..4])
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("the range has this length")
}

/// As much as there is; how much that was.
fn fill(from: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < into.len() {
        match from.read(&mut into[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn is_zero(from: &mut impl Read) -> io::Result<bool> {
    let mut rest = [0; 4096];
    loop {
        match fill(from, &mut rest)? {
            0 => return Ok(true),
            read if rest[..read].iter().any(|byte| *byte != 0) => return Ok(false),
            _ => {}
        }
    }
}
