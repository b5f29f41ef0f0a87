//! Folders for the state of nodes, removed at the end, also at the end after a crash.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::statvfs::statvfs;

const PREFIX: &str = "tenfold-";
/// Where Linux keeps files in memory.
const MEMORY: &str = "/dev/shm";

/// A folder that is removed with all it holds when this guard is dropped.
///
/// A parent that is killed with SIGKILL cannot clean up; the next [`TempDir::new`] of the same user then does, as the
/// folder's name has the process id of its owner.
#[derive(Debug)]
pub struct TempDir {
    path: PathBuf,
}

impl TempDir {
    /// Makes a folder below the system's folder for temporary files (`TMPDIR`).
    ///
    /// # Errors
    /// The folder cannot be made, for example as the file system is read-only.
    pub fn new() -> io::Result<Self> {
        Self::new_in(&std::env::temp_dir())
    }

    /// Makes a folder whose files are in memory, where the system has a file system for that with so much room; else one
    /// as [`TempDir::new`] makes it.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn in_memory(bytes: u64) -> io::Result<Self> {
        let room = statvfs(MEMORY).map_or(0, |stat| stat.blocks_available() * stat.fragment_size());
        let in_memory = (room >= bytes).then(|| Self::new_in(Path::new(MEMORY)));
        in_memory.and_then(Result::ok).map_or_else(Self::new, Ok)
    }

    /// Makes a folder below `parent`.
    ///
    /// # Errors
    /// The folder cannot be made; the error names it.
    pub fn new_in(parent: &Path) -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        sweep(parent);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("{PREFIX}{}-{n}", std::process::id()));
        // Nothing but a dead owner of the same process id can have made it.
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).map_err(|e| {
            let message = format!("cannot make the folder {}: {e}", path.display());
            io::Error::new(e.kind(), message)
        })?;
        Ok(Self { path })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // A folder that cannot be removed now is swept by the next run.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Removes the folders of owners that no longer live.
fn sweep(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|n| n.strip_prefix(PREFIX)).and_then(|n| n.split_once('-'));
        if let Some((pid, _)) = owner
            && pid.parse::<u32>().is_ok()
            && !Path::new("/proc").join(pid).exists()
        {
            // Another run may be sweeping too, or the folder is another user's.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_on_the_disk_where_memory_has_no_room() {
        let dir = TempDir::in_memory(u64::MAX).unwrap();
        assert_eq!(dir.path().parent(), Some(std::env::temp_dir().as_path()));
        assert!(TempDir::in_memory(0).unwrap().path().is_dir());
    }

    #[test]
    fn goes_with_its_guard_and_sweeps_after_the_dead() {
        let outer = TempDir::new().unwrap();
        let dead = outer.path().join("tenfold-4294967294-0");
        let foreign = outer.path().join("tenfold-notes");
        std::fs::create_dir_all(&dead).unwrap();
        std::fs::create_dir_all(&foreign).unwrap();
        let inner = TempDir::new_in(outer.path()).unwrap();
        std::fs::write(inner.path().join("state"), b"x").unwrap();
        assert!(!dead.exists() && foreign.exists());
        let (inner_path, outer_path) = (inner.path().to_owned(), outer.path().to_owned());
        drop(inner);
        assert!(!inner_path.exists() && outer_path.exists());
        drop(outer);
        assert!(!outer_path.exists());
    }

    #[test]
    fn an_unwritable_parent_is_named() {
        let error = TempDir::new_in(Path::new("/proc")).unwrap_err();
        assert!(error.to_string().contains("/proc/tenfold-"), "{error}");
    }
}
