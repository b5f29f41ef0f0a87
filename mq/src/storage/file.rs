//! Real files in a real directory.
//!
//! One `pwritev2` with `RWF_DSYNC` writes and syncs in one system call where Linux has it; elsewhere it is a write and
//! an fdatasync. The directory is held by an OS lock on a file in it (`flock`), which ends with the process however it
//! ends; a lock file whose existence or content means something would survive a kill and need a hand to clean up.

use std::fs;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::{File, Storage, StorageLock};

/// The file that the lock is on; it is empty and stays.
const LOCK_FILE: &str = "lock";

/// A directory of real files.
///
/// # Examples
/// ```no_run
/// use tenfold_mq::Directory;
///
/// let directory = Directory::open("/var/lib/app/queue")?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// The directory at this path, made with its parents if it is not there.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        if !path.is_dir() {
            let named = named_in(path);
            fs::create_dir_all(path)?;
            // New names must survive, too: each in the folder that it is in.
            for folder in named {
                fs::File::open(folder)?.sync_all()?;
            }
        }
        Ok(Self { path: path.to_path_buf() })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn at(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// The folders that get a new name when this one is made with those it is in.
fn named_in(path: &Path) -> Vec<PathBuf> {
    let new = path.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.is_dir());
    let folder = |parent: &Path| if parent.as_os_str().is_empty() { Path::new(".") } else { parent }.to_path_buf();
    let mut folders: Vec<PathBuf> = new.filter_map(Path::parent).map(folder).collect();
    folders.reverse();
    folders
}

impl Storage for Directory {
    fn lock(&self) -> io::Result<StorageLock> {
        let file =
            fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(self.at(LOCK_FILE))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(file))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        let file = fs::OpenOptions::new().read(true).write(true).open(self.at(name))?;
        Ok(Box::new(RealFile { file }))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        let file = fs::OpenOptions::new().read(true).write(true).create(true).truncate(true).open(self.at(name))?;
        Ok(Box::new(RealFile { file }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            // A name that is not UTF-8 is none of the log's.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.at(from), self.at(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.at(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        fs::File::open(&self.path)?.sync_all()
    }
}

#[derive(Debug)]
struct RealFile {
    file: fs::File,
}

impl File for RealFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    #[cfg(target_os = "linux")]
    fn write_at(&self, offset: u64, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match slices {
            [slice] => self.file.write_at(slice, offset),
            slices => Ok(rustix::io::pwritev(&self.file, slices, offset)?),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn write_at(&self, offset: u64, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match slices.iter().find(|slice| !slice.is_empty()) {
            Some(slice) => self.file.write_at(slice, offset),
            None => Ok(0),
        }
    }

    #[cfg(target_os = "linux")]
    fn write_at_sync(&self, offset: u64, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(rustix::io::pwritev2(&self.file, slices, offset, rustix::io::ReadWriteFlags::DSYNC)?)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    #[cfg(target_os = "linux")]
    fn allocate(&self, len: u64) -> io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        use rustix::io::Errno;

        match fallocate(&self.file, FallocateFlags::empty(), 0, len) {
            // File systems without it (and some over a network) still grow the file.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.file.set_len(len),
            other => Ok(other?),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn allocate(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_folder_that_gets_a_name_is_synced() {
        let base = std::env::temp_dir();
        let new = base.join(format!("tenfold-mq-folder-{}", std::process::id()));
        assert!(named_in(&base).is_empty());
        assert_eq!(named_in(&new.join("a/b")), [base, new.clone(), new.join("a")]);
        // Without a parent, or with one that is not written out.
        assert_eq!(named_in(Path::new("no-such-folder")), [Path::new(".")]);
        assert_eq!(named_in(Path::new("no-such-folder/a")), [Path::new("."), Path::new("no-such-folder")]);
    }
}
