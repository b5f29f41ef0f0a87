//! A disk that is as bad as the rules allow, seeded.
//!
//! What is written is *pending* until a sync of the file has returned: it is read back as written, as from a page cache,
//! but a crash keeps of it what it likes, each 512-byte sector by itself, and of a sector written twice either version.
//! A synced write makes durable what it wrote and nothing else of its file.
//! New lengths and names are pending in the same way, a name until the directory is synced. On top of that any call can
//! be made to fail, a write can be short, a failed sync drops the pages it was to write (they read back as written and
//! are not on disk: what Linux does), the disk can be full, and bits can flip.
//!
//! Calls that change something are counted, so that a test can crash at each of them in turn.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::{File, Storage, StorageLock};

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

type Sector = [u8; SECTOR];

/// What befalls a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The call fails with this error. A write leaves nothing, a sync drops what was pending.
    Error(io::ErrorKind),
    /// The power goes: a write is pending, a sync has not happened, and all later calls fail until
    /// [`FaultyDisk::crash`].
    PowerCut,
}

/// A directory on a faulty disk. Clones are the same one.
#[derive(Clone, Debug)]
pub struct FaultyDisk {
    disk: Arc<Mutex<Disk>>,
    locked: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Disk {
    files: Vec<Inode>,
    /// Names as seen by calls.
    names: BTreeMap<String, usize>,
    /// Names as they are on disk.
    durable_names: BTreeMap<String, usize>,
    pending_names: Vec<NameChange>,
    /// Calls so far that change something.
    changes: u64,
    reads: u64,
    change_faults: BTreeMap<u64, Fault>,
    read_faults: BTreeMap<u64, io::ErrorKind>,
    capacity_bytes: u64,
    short_writes: Option<u64>,
    is_off: bool,
    random: u64,
}

#[derive(Clone, Debug)]
enum NameChange {
    Put(String, usize),
    Rename(String, String, usize),
    Remove(String),
}

#[derive(Debug, Default)]
struct Inode {
    /// What a read gives.
    bytes: Vec<u8>,
    durable: Vec<u8>,
    /// Versions of each sector that a crash may leave, besides the durable one.
    pending: BTreeMap<usize, Vec<Sector>>,
    len_pending: bool,
}

impl FaultyDisk {
    /// An empty disk without faults; what a crash keeps follows from the seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let disk = Disk {
            files: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending_names: Vec::new(),
            changes: 0,
            reads: 0,
            change_faults: BTreeMap::new(),
            read_faults: BTreeMap::new(),
            capacity_bytes: u64::MAX,
            short_writes: None,
            is_off: false,
            random: seed,
        };
        Self { disk: Arc::new(Mutex::new(disk)), locked: Arc::default() }
    }

    /// Has this fault befall the call that is the `index`-th, from 0, of those that change something: writes, syncs,
    /// allocations, and changes and syncs of the directory.
    pub fn fail_change(&self, index: u64, fault: Fault) {
        self.disk.lock().change_faults.insert(index, fault);
    }

    /// Has the `index`-th read fail, from 0.
    pub fn fail_read(&self, index: u64, error: io::ErrorKind) {
        self.disk.lock().read_faults.insert(index, error);
    }

    /// Calls so far that changed something.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.disk.lock().changes
    }

    /// Reads so far.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.disk.lock().reads
    }

    /// The disk holds so many bytes in all of its files.
    pub fn set_capacity(&self, bytes: u64) {
        self.disk.lock().capacity_bytes = bytes;
    }

    /// Bytes of all files.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.disk.lock().used_bytes()
    }

    /// One write in so many takes only a part of its bytes; 0 for none.
    pub fn set_short_writes(&self, one_in: u64) {
        self.disk.lock().short_writes = (one_in > 0).then_some(one_in);
    }

    /// Cuts the power and switches it on again: of all that is pending, some is kept. Faults that were to come are
    /// cleared, and the lock is free.
    pub fn crash(&self) {
        self.disk.lock().crash();
        self.locked.store(false, Ordering::Release);
    }

    /// A disk of its own with what a crash would leave on this one, for a seed of the crash.
    #[must_use]
    pub fn crashed(&self, seed: u64) -> Self {
        let source = self.disk.lock();
        let copy = Self::new(seed);
        {
            let mut disk = copy.disk.lock();
            disk.files = source.files.iter().map(Inode::copy).collect();
            disk.names.clone_from(&source.names);
            disk.durable_names.clone_from(&source.durable_names);
            disk.pending_names.clone_from(&source.pending_names);
            disk.crash();
        }
        copy
    }

    /// Flips one bit of a file, counted from its first byte's lowest.
    ///
    /// # Panics
    /// If there is no such bit.
    pub fn flip_bit(&self, name: &str, bit: u64) {
        let mut disk = self.disk.lock();
        let Some(&inode) = disk.names.get(name) else { panic!("no file {name}") };
        let file = &mut disk.files[inode];
        let byte = (bit / 8) as usize;
        for bytes in [&mut file.bytes, &mut file.durable] {
            bytes[byte] ^= 1 << (bit % 8);
        }
    }

    /// Cuts a file short.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn truncate(&self, name: &str, len: u64) {
        let mut disk = self.disk.lock();
        let Some(&inode) = disk.names.get(name) else { panic!("no file {name}") };
        disk.files[inode].bytes.truncate(len as usize);
        disk.files[inode].durable.truncate(len as usize);
    }

    /// What a read of the whole file would give.
    ///
    /// # Panics
    /// If there is no such file.
    #[must_use]
    pub fn contents(&self, name: &str) -> Vec<u8> {
        let disk = self.disk.lock();
        let Some(&inode) = disk.names.get(name) else { panic!("no file {name}") };
        disk.files[inode].bytes.clone()
    }
}

impl Disk {
    /// Counts a call that changes something; the fault that befalls it.
    fn change(&mut self) -> io::Result<Option<Fault>> {
        if self.is_off {
            return Err(power_is_off());
        }
        let fault = self.change_faults.remove(&self.changes);
        self.changes += 1;
        if fault == Some(Fault::PowerCut) {
            self.is_off = true;
        }
        Ok(fault)
    }

    /// Counts a call whose fault leaves nothing of it.
    fn simple_change(&mut self) -> io::Result<()> {
        match self.change()? {
            None => Ok(()),
            Some(Fault::Error(kind)) => Err(kind.into()),
            Some(Fault::PowerCut) => Err(power_is_off()),
        }
    }

    fn read(&mut self) -> io::Result<()> {
        if self.is_off {
            return Err(power_is_off());
        }
        let fault = self.read_faults.remove(&self.reads);
        self.reads += 1;
        fault.map_or(Ok(()), |kind| Err(kind.into()))
    }

    fn used_bytes(&self) -> u64 {
        let inodes: BTreeSet<_> = self.names.values().collect();
        inodes.into_iter().map(|&inode| self.files[inode].bytes.len() as u64).sum()
    }

    /// SplitMix64 (Steele, Lea, Flood 2014), as in the other crates.
    fn below(&mut self, n: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((u128::from(z ^ (z >> 31)) * u128::from(n)) >> 64) as u64
    }

    fn crash(&mut self) {
        for change in std::mem::take(&mut self.pending_names) {
            if self.below(2) == 0 {
                change.apply(&mut self.durable_names);
            }
        }
        self.names.clone_from(&self.durable_names);
        // Now and then all of it survives, or nothing: a kill, a disk that had flushed nothing.
        let mood = self.below(4);
        for index in 0..self.files.len() {
            let file = std::mem::take(&mut self.files[index]);
            self.files[index] = self.crash_file(file, mood);
        }
        self.change_faults.clear();
        self.read_faults.clear();
        self.is_off = false;
    }

    fn crash_file(&mut self, mut file: Inode, mood: u64) -> Inode {
        if file.len_pending && self.below(2) == 0 {
            file.durable.resize(file.bytes.len(), 0);
        }
        for (sector, versions) in &file.pending {
            let kept = match mood {
                0 => versions.len(),
                1 => 0,
                _ => self.below(versions.len() as u64 + 1) as usize,
            };
            let from = sector * SECTOR;
            if let Some(version) = kept.checked_sub(1).map(|index| &versions[index]) {
                let to = (from + SECTOR).min(file.durable.len());
                if from < to {
                    file.durable[from..to].copy_from_slice(&version[..to - from]);
                }
            }
        }
        Inode { bytes: file.durable.clone(), durable: file.durable, ..Inode::default() }
    }
}

impl NameChange {
    fn apply(self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Put(name, inode) => _ = names.insert(name, inode),
            Self::Rename(from, to, inode) => {
                names.remove(&from);
                names.insert(to, inode);
            }
            Self::Remove(name) => _ = names.remove(&name),
        }
    }
}

impl Inode {
    fn copy(&self) -> Self {
        Self {
            bytes: self.bytes.clone(),
            durable: self.durable.clone(),
            pending: self.pending.clone(),
            len_pending: self.len_pending,
        }
    }

    fn resize(&mut self, len: usize) {
        if self.bytes.len() < len {
            self.bytes.resize(len, 0);
            self.len_pending = true;
        }
    }

    fn write(&mut self, offset: usize, data: &[u8]) {
        self.resize(offset + data.len());
        self.bytes[offset..offset + data.len()].copy_from_slice(data);
        if data.is_empty() {
            return;
        }
        for sector in offset / SECTOR..=(offset + data.len() - 1) / SECTOR {
            let from = sector * SECTOR;
            let to = (from + SECTOR).min(self.bytes.len());
            let mut version = [0; SECTOR];
            version[..to - from].copy_from_slice(&self.bytes[from..to]);
            self.pending.entry(sector).or_default().push(version);
        }
    }

    /// Everything pending is on disk.
    fn sync(&mut self) {
        self.durable.resize(self.bytes.len(), 0);
        for &sector in self.pending.keys() {
            let from = sector * SECTOR;
            let to = (from + SECTOR).min(self.bytes.len());
            self.durable[from..to].copy_from_slice(&self.bytes[from..to]);
        }
        self.drop_pending();
    }

    /// What is pending of the sectors of these bytes is on disk, and the length.
    fn sync_range(&mut self, offset: usize, len: usize) {
        self.durable.resize(self.bytes.len(), 0);
        self.len_pending = false;
        for sector in offset / SECTOR..(offset + len).div_ceil(SECTOR) {
            if self.pending.remove(&sector).is_some() {
                let from = sector * SECTOR;
                let to = (from + SECTOR).min(self.bytes.len());
                self.durable[from..to].copy_from_slice(&self.bytes[from..to]);
            }
        }
    }

    /// What was pending will never be written, and is still read back as if it had been.
    fn drop_pending(&mut self) {
        self.pending.clear();
        self.len_pending = false;
    }
}

fn power_is_off() -> io::Error {
    io::Error::other("the power is off")
}

struct Locked(Arc<AtomicBool>);

impl Drop for Locked {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl FaultyDisk {
    fn file(&self, inode: usize) -> Box<dyn File> {
        Box::new(FaultyFile { disk: Arc::clone(&self.disk), inode })
    }
}

impl Storage for FaultyDisk {
    fn lock(&self) -> io::Result<StorageLock> {
        if self.locked.swap(true, Ordering::Acquire) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(Locked(Arc::clone(&self.locked))))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        let mut disk = self.disk.lock();
        disk.read()?;
        let inode = *disk.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(self.file(inode))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        let mut disk = self.disk.lock();
        disk.simple_change()?;
        disk.files.push(Inode::default());
        let inode = disk.files.len() - 1;
        disk.names.insert(name.to_owned(), inode);
        disk.pending_names.push(NameChange::Put(name.to_owned(), inode));
        Ok(self.file(inode))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut disk = self.disk.lock();
        disk.read()?;
        Ok(disk.names.keys().cloned().collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.simple_change()?;
        let inode = disk.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        disk.names.insert(to.to_owned(), inode);
        disk.pending_names.push(NameChange::Rename(from.to_owned(), to.to_owned(), inode));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.simple_change()?;
        disk.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
        disk.pending_names.push(NameChange::Remove(name.to_owned()));
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.simple_change()?;
        disk.pending_names.clear();
        disk.durable_names = disk.names.clone();
        Ok(())
    }
}

#[derive(Debug)]
struct FaultyFile {
    disk: Arc<Mutex<Disk>>,
    inode: usize,
}

impl FaultyFile {
    fn sync_with(&self, sync: impl FnOnce(&mut Inode)) -> io::Result<()> {
        let mut disk = self.disk.lock();
        let fault = disk.change()?;
        let file = &mut disk.files[self.inode];
        match fault {
            None => {
                sync(file);
                Ok(())
            }
            Some(Fault::Error(kind)) => {
                file.drop_pending();
                Err(kind.into())
            }
            Some(Fault::PowerCut) => Err(power_is_off()),
        }
    }
}

impl File for FaultyFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut disk = self.disk.lock();
        disk.read()?;
        let bytes = &disk.files[self.inode].bytes;
        let from = (offset as usize).min(bytes.len());
        let count = buffer.len().min(bytes.len() - from);
        buffer[..count].copy_from_slice(&bytes[from..from + count]);
        Ok(count)
    }

    fn write_at(&self, offset: u64, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut data: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        let mut disk = self.disk.lock();
        let fault = disk.change()?;
        if let Some(Fault::Error(kind)) = fault {
            return Err(kind.into());
        }
        if let Some(one_in) = disk.short_writes {
            if disk.below(one_in) == 0 {
                let kept = 1 + disk.below(data.len() as u64) as usize;
                data.truncate(kept);
            }
        }
        let has = disk.files[self.inode].bytes.len() as u64;
        let room = has + disk.capacity_bytes.saturating_sub(disk.used_bytes());
        if offset + data.len() as u64 > room.max(has) {
            // What fits is written, and the next call is told.
            let fits = room.saturating_sub(offset).min(data.len() as u64) as usize;
            if fits == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            data.truncate(fits);
        }
        disk.files[self.inode].write(offset as usize, &data);
        if fault.is_some() { Err(power_is_off()) } else { Ok(data.len()) }
    }

    fn write_at_sync(&self, offset: u64, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let written = self.write_at(offset, slices)?;
        // No more than was written becomes durable: what came before it and was not synced is pending still.
        self.sync_with(|file| file.sync_range(offset as usize, written))?;
        Ok(written)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_with(Inode::sync)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.simple_change()?;
        let has = disk.files[self.inode].bytes.len() as u64;
        if len.saturating_sub(has) > disk.capacity_bytes.saturating_sub(disk.used_bytes()) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        disk.files[self.inode].resize(len as usize);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        let mut disk = self.disk.lock();
        disk.read()?;
        Ok(disk.files[self.inode].bytes.len() as u64)
    }
}
