//! The state that the disk is in before it is measured.
//!
//! Dirty pages and deleted files that an earlier turn left behind make a sync take thirty times as long, for up to a minute. So
//! before each turn on the disk everything is written out, and the disk is probed until it is as fast as it was in the beginning.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::clock::Stopwatch;
use crate::report::median;

const PAGE: usize = 4096;
const PROBES: usize = 15;

/// A probe that is so much slower than the fastest one counts as unsettled.
const MAX_SLOWDOWN: f64 = 1.6;

/// In the beginning, when there is nothing to compare with, it is hoped for less than this.
const HOPED_FOR_US: f64 = 250.0;

/// How long it waits between two probes.
const PAUSE: Duration = Duration::from_millis(100);

/// Says when a disk is ready.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
    probe: File,
    fastest_us: f64,
    patience: Duration,
}

impl Disk {
    /// The disk that this folder is on. It is waited for no longer than `patience` at a time.
    ///
    /// # Errors
    ///
    /// What the system gave.
    pub fn of(folder: &Path, patience: Duration) -> io::Result<Self> {
        let path = folder.join("probe");
        let probe = OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
        probe.write_all_at(&[1; PAGE], 0)?;
        probe.sync_all()?;
        let mut disk = Self { path, probe, fastest_us: HOPED_FOR_US / MAX_SLOWDOWN, patience };
        disk.fastest_us = disk.settle()?;
        Ok(disk)
    }

    /// Writes out what is dirty, and waits until a sync is fast again; what it takes then, in microseconds.
    ///
    /// # Errors
    ///
    /// What the system gave.
    pub fn settle(&mut self) -> io::Result<f64> {
        nix::unistd::sync();
        let stopwatch = Stopwatch::start();
        loop {
            let probe_us = self.probe()?;
            self.fastest_us = self.fastest_us.min(probe_us);
            if probe_us <= self.fastest_us * MAX_SLOWDOWN || stopwatch.elapsed() > self.patience {
                return Ok(probe_us);
            }
            thread::sleep(PAUSE);
        }
    }

    /// The middle of what some overwrites of a page, each synced, take.
    fn probe(&self) -> io::Result<f64> {
        let mut micros = Vec::with_capacity(PROBES);
        for number in 0..PROBES {
            let stopwatch = Stopwatch::start();
            self.probe.write_all_at(&[number as u8; PAGE], 0)?;
            self.probe.sync_data()?;
            micros.push(stopwatch.elapsed().as_secs_f64() * 1e6);
        }
        Ok(median(&micros).unwrap_or_default())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Left behind, it is one page.
        let _ = fs::remove_file(&self.path);
    }
}

/// Space that a folder's files take on the disk, those in folders within it included.
///
/// # Errors
///
/// What the system gave.
pub fn bytes_of(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { bytes_of(&entry.path())? } else { metadata.blocks() * 512 };
    }
    Ok(bytes)
}

/// Removes a folder, which a process that was just told to end may still be writing to.
///
/// # Errors
///
/// What the system gave, several times.
pub fn remove(folder: &Path) -> io::Result<()> {
    let mut tries = 0;
    loop {
        match fs::remove_dir_all(folder) {
            Err(_) if tries < 20 => tries += 1,
            outcome => return outcome,
        }
        thread::sleep(PAUSE);
    }
}
