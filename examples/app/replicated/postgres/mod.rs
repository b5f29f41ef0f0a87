//! The nodes of rung 05 on PostgreSQL: a real server beside each database server's process, which starts it and has its
//! statements run by the crate's driver.
//!
//! ```text
//!   web server ──HTTP──> database server ── PgDriver ──> postgres (its child) ── its folder
//!                        batches, orders,                   │ asks for the log
//!                        slots of time                      ▼
//!                        its way to each other ──────> postgres of another, unless the network is cut
//! ```
//!
//! The servers listen on sockets in their folders, on no port. They ask each other for the log, and the driver asks the new
//! primary of a failover, by a way through the process of whoever asks: that is what a cut of the network cuts.
//!
//! | module | what it is |
//! |---|---|
//! | [`stock`] | a filled data directory, and copies of it |
//! | `beside` | the node: its driver, its batches |
//! | `postmaster` | the server's process: started, stopped, rewound |
//! | `way` | the network between two servers |

#[cfg(feature = "postgres")]
mod beside;
#[cfg(feature = "postgres")]
mod postmaster;
pub mod stock;
#[cfg(feature = "postgres")]
mod way;

use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::products;

#[cfg(feature = "postgres")]
pub(super) use beside::Beside;

/// An installed PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostgreSql {
    programs: PathBuf,
    version: String,
}

/// Why there is no PostgreSQL to use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NoPostgreSql {
    /// The program was built without the driver.
    #[error("this build knows no PostgreSQL: it lacks the feature `postgres`")]
    NotBuilt,
    /// There are no such programs.
    #[error(
        "--engines postgres needs the programs of PostgreSQL 14 or later (the Debian package is called postgresql) in \
         /usr/lib/postgresql, on the search path, or in the folder that {} names",
        products::FOLDER_VARIABLE
    )]
    Missing,
    /// One of them does not say its version.
    #[error("{program:?} does not say its version")]
    Unusable {
        /// Which.
        program: PathBuf,
        /// Why not, if it did not start.
        source: Option<io::Error>,
    },
}

impl PostgreSql {
    /// The one that is installed here.
    ///
    /// # Errors
    ///
    /// [`NoPostgreSql`].
    pub fn find() -> Result<Self, NoPostgreSql> {
        let programs = products::find().ok_or(NoPostgreSql::Missing)?;
        let program = programs.join("postgres");
        match Command::new(&program).arg("--version").output() {
            Ok(output) => match version(&String::from_utf8_lossy(&output.stdout)) {
                Some(version) => Ok(Self { version: version.to_owned(), programs }),
                None => Err(NoPostgreSql::Unusable { program, source: None }),
            },
            Err(source) => Err(NoPostgreSql::Unusable { program, source: Some(source) }),
        }
    }

    /// One of its programs, as the user that may run it, and for no longer than the thread that starts it lives.
    fn program(&self, name: &str) -> Command {
        as_owner(&self.programs.join(name))
    }
}

/// A program run by whoever owns the servers' files. It ends with the thread that starts it.
fn as_owner(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    if is_root() {
        let nobody = products::NOBODY.to_string();
        command.args(["--reuid", &nobody, "--regid", &nobody, "--clear-groups"]);
    }
    command.args(["--pdeathsig", "KILL", "--"]).arg(program).current_dir("/").env("LC_ALL", "C");
    command
}

/// Gives a file or a folder to whoever runs the servers.
fn give_away(path: &Path) -> io::Result<()> {
    if is_root() {
        std::os::unix::fs::chown(path, Some(products::NOBODY), Some(products::NOBODY))?;
    }
    Ok(())
}

/// PostgreSQL refuses to run as root.
fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

impl fmt::Display for PostgreSql {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgreSQL {}", self.version)
    }
}

/// `postgres (PostgreSQL) 15.14 (Debian …)` is 15.14.
fn version(text: &str) -> Option<&str> {
    text.split_once("(PostgreSQL) ")?.1.split_whitespace().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_the_word_behind_the_name() {
        assert_eq!(version("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n"), Some("15.14"));
        assert_eq!(version("postgres (PostgreSQL) 17beta1"), Some("17beta1"));
        assert_eq!(version("another program 1.0"), None);
    }
}
