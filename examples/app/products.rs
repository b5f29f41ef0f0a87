//! Database products by name: what the embedded stores stand for, and PostgreSQL itself where it is installed.
//!
//! PostgreSQL runs in its single-user mode: one process that reads statements from its standard input and ends with it,
//! so there is no port to be busy and nothing can be left running.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tenfold_rig::Claim;
use tenfold_rig::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// What the story names, by kind.
pub const NAMED: &str = "relational: MySQL, Oracle, PostgreSQL; others: CouchDB, Neo4j, Cassandra, HBase, DynamoDB";

/// Names the folder of PostgreSQL's programs, and no other is looked at.
pub const FOLDER_VARIABLE: &str = "PG_BIN";

const TIMEOUT: Duration = Duration::from_secs(30);
/// PostgreSQL refuses to run as root; this account exists everywhere and owns nothing.
pub(crate) const NOBODY: u32 = 65_534;
const STATEMENTS: &str = "\
CREATE TABLE users (id bigint PRIMARY KEY CHECK (id > 0), first_name text NOT NULL);
CREATE TABLE accounts (id bigint PRIMARY KEY, user_id bigint NOT NULL REFERENCES users (id), balance bigint CHECK (balance >= 0));
INSERT INTO users VALUES (123, 'John');
INSERT INTO accounts VALUES (1, 123, 500);
INSERT INTO accounts VALUES (2, 999, 500);
UPDATE accounts SET balance = -1 WHERE id = 1;
SELECT first_name, balance FROM users JOIN accounts ON accounts.user_id = users.id;
";

/// What PostgreSQL said to statements that it must run and to others that it must refuse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// The version, as the program names itself.
    pub version: String,
    /// Whether the join returned the one row that is there.
    pub answered: bool,
    /// Violations refused, of two: a foreign key and a CHECK.
    pub refused: usize,
}

/// r08: the products are named; PostgreSQL is really run where it is found.
///
/// `is_quick` finds it and does not run it: making its first files takes a second of processor time.
pub async fn claim(is_quick: bool) -> Claim {
    let text = "products by name; PostgreSQL is run where it is installed";
    let Some(folder) = find() else {
        return Claim::new("r08", text, "named only", true).note(format!("PostgreSQL is not installed here. {NAMED}"));
    };
    if is_quick {
        let note = format!("PostgreSQL is installed and not run in a quick run. {NAMED}");
        return Claim::new("r08", text, "named only", true).note(note);
    }
    match tokio::time::timeout(TIMEOUT, trial(&folder)).await {
        Ok(Ok(trial)) => Claim::new("r08", text, trial.version, trial.answered && trial.refused == 2)
            .note(format!("schema, join, foreign key and CHECK as on the embedded store. {NAMED}")),
        Ok(Err(error)) => Claim::new("r08", text, "failed", false).note(error.to_string()),
        Err(_) => Claim::new("r08", text, "timed out", false),
    }
}

/// The folder of PostgreSQL's programs, if they are installed: that of [`FOLDER_VARIABLE`], or the newest.
pub fn find() -> Option<PathBuf> {
    let folders: Vec<PathBuf> = match std::env::var_os(FOLDER_VARIABLE) {
        Some(folder) => vec![folder.into()],
        None => {
            let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
            let mut folders: Vec<_> = versions.map(|version| version.path()).collect();
            let number = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
            folders.sort_by_key(|path| std::cmp::Reverse(number(path)));
            let on_path = std::env::var_os("PATH").unwrap_or_default();
            folders.into_iter().map(|version| version.join("bin")).chain(std::env::split_paths(&on_path)).collect()
        }
    };
    folders.into_iter().find(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file())
}

/// Makes a database in a temporary folder and runs the statements on it.
///
/// # Errors
///
/// A program cannot be started, or ends with a failure.
///
/// # Cancel safety
///
/// The programs are killed and the folder is removed.
pub async fn trial(folder: &Path) -> io::Result<Trial> {
    let dir = TempDir::new()?;
    let is_root = std::fs::metadata(format!("/proc/{}", std::process::id())).is_ok_and(|own| {
        use std::os::unix::fs::MetadataExt;
        own.uid() == 0
    });
    if is_root {
        std::os::unix::fs::chown(dir.path(), Some(NOBODY), Some(NOBODY))?;
    }
    let data = dir.path().join("data");
    let program = |name: &str| {
        let mut command = std::process::Command::new(folder.join(name));
        command.current_dir(dir.path()).env("LC_ALL", "C");
        if is_root {
            command.uid(NOBODY).gid(NOBODY);
        }
        let mut command = Command::from(command);
        command.kill_on_drop(true).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let made =
        program("initdb").args(["--no-sync", "--auth=trust", "--username=tenfold", "-D"]).arg(&data).output().await?;
    if !made.status.success() {
        return Err(io::Error::other(format!("initdb: {}", String::from_utf8_lossy(&made.stderr).trim())));
    }
    let mut server = program("postgres").arg("--single").arg("-D").arg(&data).arg("postgres").spawn()?;
    let mut input = server.stdin.take().ok_or_else(|| io::Error::other("postgres has no standard input"))?;
    input.write_all(STATEMENTS.as_bytes()).await?;
    drop(input);
    let output = server.wait_with_output().await?;
    let (answers, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let version = program("postgres").arg("--version").output().await?;
    let violations = ["violates foreign key constraint", "violates check constraint"];
    Ok(Trial {
        version: String::from_utf8_lossy(&version.stdout).trim().to_owned(),
        answered: answers.contains("first_name = \"John\"") && answers.contains("balance = \"500\""),
        refused: violations.iter().filter(|violation| errors.contains(**violation)).count(),
    })
}
