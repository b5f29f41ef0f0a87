//! Where the log lies: real files, memory, a faulty disk for tests.
//!
//! A log is only as good as what it assumes about the disk, and the assumptions can be tested only if the disk can be
//! replaced by one that is as bad as the rules allow: a write is nothing until a sync of its file has returned, a name
//! is nothing until a sync of the directory has. So the log sees a directory of flat names through [`Storage`] and
//! [`File`], and [`Directory`] (real files), [`Memory`] (nothing survives) and, with the feature `testing`,
//! `FaultyDisk` stand behind it.
//!
//! Calls block, and errors are [`std::io::Error`]: [`StorageFull`](io::ErrorKind::StorageFull) means that the disk is
//! full, [`WouldBlock`](io::ErrorKind::WouldBlock) from [`Storage::lock`] that somebody else has the directory.

use std::any::Any;
use std::fmt::Debug;
use std::io::{self, IoSlice};

#[cfg(any(test, fuzzing, feature = "testing"))]
mod faulty;
mod file;
mod memory;

#[cfg(any(test, fuzzing, feature = "testing"))]
#[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
pub use self::faulty::{Fault, FaultyDisk};
pub use self::file::Directory;
pub use self::memory::Memory;

/// Holds the directory for one log as long as it lives; see [`Storage::lock`].
pub type StorageLock = Box<dyn Any + Send + Sync>;

/// One flat directory of files.
///
/// Names are short ASCII without separators. What [`create`](Self::create), [`rename`](Self::rename) and
/// [`remove`](Self::remove) did survives a crash for sure only once [`sync_dir`](Self::sync_dir) has returned; before
/// that each of them may or may not have happened.
pub trait Storage: Debug + Send + Sync {
    /// Takes the directory for one log, until the lock is dropped.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if another log holds it, of this process or another.
    fn lock(&self) -> io::Result<StorageLock>;

    /// Opens a file that exists, for reading and writing.
    ///
    /// # Errors
    /// [`NotFound`](io::ErrorKind::NotFound), or whatever the system says.
    fn open(&self, name: &str) -> io::Result<Box<dyn File>>;

    /// Makes a new, empty file; one of that name is emptied.
    ///
    /// # Errors
    /// Whatever the system says.
    fn create(&self, name: &str) -> io::Result<Box<dyn File>>;

    /// The names of all files, in order.
    ///
    /// # Errors
    /// Whatever the system says.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Gives a file another name at once: a crash leaves it under one of the two. A file of that name is replaced.
    ///
    /// # Errors
    /// [`NotFound`](io::ErrorKind::NotFound), or whatever the system says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file. Who has it open may go on to use it.
    ///
    /// # Errors
    /// [`NotFound`](io::ErrorKind::NotFound), or whatever the system says.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes all names durable.
    ///
    /// # Errors
    /// Whatever the system says; what had been pending is then lost or not, nobody knows.
    fn sync_dir(&self) -> io::Result<()>;
}

/// One open file. Calls may come from several threads at once.
pub trait File: Debug + Send + Sync {
    /// Reads into `buffer` from this place on; fewer bytes than asked for are no error, none means the end.
    ///
    /// # Errors
    /// Whatever the system says.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes the slices one behind the other; fewer bytes than given are no error.
    ///
    /// # Errors
    /// [`StorageFull`](io::ErrorKind::StorageFull), or whatever the system says.
    fn write_at(&self, offset: u64, slices: &[IoSlice<'_>]) -> io::Result<usize>;

    /// [`write_at`](Self::write_at), and what was written is durable when it returns.
    ///
    /// # Errors
    /// As of `write_at` and [`sync`](Self::sync); it is then unknown what is durable.
    fn write_at_sync(&self, offset: u64, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let written = self.write_at(offset, slices)?;
        self.sync()?;
        Ok(written)
    }

    /// Makes everything written so far durable, with the length.
    ///
    /// # Errors
    /// Whatever the system says. A failed sync is final: the system may have dropped the pages, and another sync that
    /// succeeds proves nothing (Rebello et al., "Can Applications Recover from fsync Failures?", USENIX ATC 2020).
    fn sync(&self) -> io::Result<()>;

    /// Makes the file this long and reserves the space, where the system can.
    ///
    /// # Errors
    /// [`StorageFull`](io::ErrorKind::StorageFull), or whatever the system says.
    fn allocate(&self, len: u64) -> io::Result<()>;

    /// The file's length.
    ///
    /// # Errors
    /// Whatever the system says.
    fn len(&self) -> io::Result<u64>;

    /// Whether there is nothing in the file.
    ///
    /// # Errors
    /// As of [`len`](Self::len).
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// Reads until the buffer is full or the file ends; returns how much was read.
pub(crate) fn read_full(file: &dyn File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut read = 0;
    while read < buffer.len() {
        match file.read_at(offset + read as u64, &mut buffer[read..]) {
            Ok(0) => break,
            Ok(count) => read += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

/// When a write is to be durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// Some time later.
    Later,
    /// When the call returns.
    Now,
}

/// Writes all of the slices, however often it takes.
pub(crate) fn write_full(
    file: &dyn File,
    mut offset: u64,
    mut slices: &mut [IoSlice<'_>],
    durable: When,
) -> io::Result<()> {
    /// What the system takes in one call (`IOV_MAX`).
    const MAX_SLICES: usize = 1024;
    while !slices.is_empty() {
        let now = &slices[..slices.len().min(MAX_SLICES)];
        let written = match durable {
            When::Later => file.write_at(offset, now),
            When::Now => file.write_at_sync(offset, now),
        };
        match written {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                offset += count as u64;
                IoSlice::advance_slices(&mut slices, count);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
