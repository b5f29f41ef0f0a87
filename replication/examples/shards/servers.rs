//! A server of its own, by the script that readers use.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use tempfile::TempDir;

use super::Failure;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/pg-cluster");

/// Ends with the program, also if that is interrupted.
pub(crate) struct Server {
    place: TempDir,
    /// Held while the script starts it.
    starting: Arc<Mutex<()>>,
}

impl Server {
    /// A primary without replicas, and its address.
    pub(crate) async fn start() -> Result<(Self, String), Failure> {
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }?;
        // The script runs the server as another user, where this one is root.
        std::fs::set_permissions(place.path(), PermissionsExt::from_mode(0o755))?;
        let server = Self { place, starting: Arc::default() };
        let mut command = Command::new(SCRIPT);
        command.args(["up", "--replicas", "0", "--dir"]).arg(server.dir());
        let starting = Arc::clone(&server.starting);
        let up = tokio::task::spawn_blocking(move || {
            let _starting = starting.lock().unwrap_or_else(PoisonError::into_inner);
            command.output()
        });
        let output = up.await??;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().into());
        }
        Ok((server, String::from_utf8(output.stdout)?.trim().into()))
    }

    fn dir(&self) -> PathBuf {
        self.place.path().join("cluster")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _starting = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = Command::new(SCRIPT).args(["down", "--dir"]).arg(self.dir()).output();
    }
}
