use super::*;
use crate::log::Room;
use crate::upkeep::append;
use crate::{Memory, Queue};

fn open(storage: &Memory) -> Result<Queue, OpenError> {
    Queue::builder().open_storage(storage.clone())
}

/// The first of two parts, as a checkpoint leaves it that finds the disk full or the power gone.
fn half() -> Part {
    Part { identity: 1, serial: 2, index: 0, count: 2, bytes: Bytes::from_static(b"half") }
}

fn put(queue: &Queue, part: &Part) -> Address {
    let log = queue.shared().log().unwrap();
    append(log, Room::Ordinary, CHECKPOINT, &[&part.head(), &part.bytes]).unwrap().0
}

fn checkpoint(queue: &Queue) {
    let disk = queue.shared().disk.as_ref().unwrap();
    queue.shared().checkpoint(disk, &mut disk.upkeep.lock()).unwrap();
}

#[test]
fn messages_between_half_a_checkpoint_and_a_whole_one_are_there() {
    let storage = Memory::new();
    let queue = open(&storage).unwrap();
    queue.producer().send("before").unwrap();
    put(&queue, &half());
    queue.producer().send("between").unwrap();
    checkpoint(&queue);
    drop(queue);
    assert_eq!(open(&storage).unwrap().stats().messages, 2);
}

#[test]
fn half_a_checkpoint_is_followed_by_a_whole_one() {
    let serial = |queue: &Queue| queue.shared().disk.as_ref().unwrap().upkeep.lock().serial;
    let storage = Memory::new();
    let queue = open(&storage).unwrap();
    put(&queue, &half());
    queue.producer().send("a").unwrap();
    drop(queue);
    // A restart puts off what comes after half a checkpoint, and must not do so for ever.
    assert_eq!([(); 3].map(|()| serial(&open(&storage).unwrap())), [2; 3]);
}

#[test]
fn a_checkpoint_that_names_messages_that_are_not_there_is_refused() {
    let storage = Memory::new();
    let queue = open(&storage).unwrap();
    let mut state = State::new(limits(&Config::default()));
    let address = Address { segment: 1, offset: 512 };
    let entry = Entry { address, size: 1, priority: 0, key: None, sent_ms: 0, due_ms: 0, expires_ms: 0 };
    state.insert(&entry);
    let mut bytes = bytes::BytesMut::new();
    state.export(&mut bytes);
    let address = put(&queue, &Part { count: 1, bytes: bytes.freeze(), ..half() });
    queue.flush().unwrap();
    queue.producer().send("later").unwrap();
    drop(queue);
    refuses(&storage, address, &DecodeError::Missing);
}

#[test]
fn a_checkpoint_that_makes_no_sense_is_named_with_its_place() {
    for (bytes, source) in [(b"\x09".as_slice(), DecodeError::Unknown), (b"\x01\x80", DecodeError::Short)] {
        let storage = Memory::new();
        let queue = open(&storage).unwrap();
        queue.producer().send("before").unwrap();
        let address = put(&queue, &Part { count: 1, bytes: Bytes::from_static(bytes), ..half() });
        queue.flush().unwrap();
        queue.producer().send("later").unwrap();
        drop(queue);
        refuses(&storage, address, &source);
    }
}

/// Neither opens nor verifies, both because of this record, and as often as one tries.
fn refuses(storage: &Memory, address: Address, why: &DecodeError) {
    for refused in [open(storage).map(drop), Queue::verify_storage(storage).map(drop), open(storage).map(drop)] {
        let Err(OpenError::Record { segment, offset, source }) = refused else { panic!("it is refused") };
        assert_eq!((segment, offset), (address.segment, address.offset.into()));
        assert_eq!(&source, why);
    }
}
