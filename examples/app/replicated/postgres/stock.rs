//! A data directory with the sample users in it, made once, and copies of it: nodes of systems to be.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use tenfold_rig::RoleResult;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::{PostgreSql, as_owner, give_away};
use crate::sqlite;
use crate::user::{User, UserId};

/// Where a node's server keeps its files, in the node's folder.
pub(super) const DATA: &str = "data";
/// The superuser of all servers.
pub(super) const SUPERUSER: &str = "tenfold";

/// Of every node; what differs between them is told to the server when it is started. Shared memory in files goes with the
/// folder if the server is killed.
const SETTINGS: &str = "
listen_addresses = ''
unix_socket_permissions = 0700
max_connections = 200
shared_buffers = 16MB
dynamic_shared_memory_type = mmap
jit = off
max_wal_senders = 20
max_replication_slots = 20
wal_keep_size = 64MB
max_wal_size = 256MB
# What is written beside commits follows soon as well.
wal_writer_delay = 10ms
# A replica gives a silent primary up after this.
wal_receiver_timeout = 1s
wal_receiver_status_interval = 1s
wal_sender_timeout = 5s
wal_retrieve_retry_interval = 20ms
";

/// Fills `folder` with a data directory, whose server is down.
///
/// # Errors
///
/// A program of PostgreSQL fails.
pub async fn fill(server: &PostgreSql, folder: &Path, users: u64, balance: u64) -> RoleResult {
    make_folder(folder)?;
    let data = folder.join(DATA);
    let mut initdb = server.program("initdb");
    initdb.args(["--username", SUPERUSER, "--auth=trust", "--encoding=UTF8", "--no-locale", "--data-checksums"]);
    // Small segments of the log are made and copied faster.
    initdb.args(["--wal-segsize=1", "--no-sync", "--no-instructions", "-D"]).arg(&data);
    done("initdb", Command::from(initdb).kill_on_drop(true).output().await?)?;
    let file = data.join("postgresql.conf");
    let settings = std::fs::read_to_string(&file)? + SETTINGS;
    // In place: it stays the property of whoever owns it.
    std::fs::write(&file, settings)?;
    let mut postgres = server.program("postgres");
    postgres.args(["--single", "-D"]).arg(&data).arg("postgres");
    let mut postgres = Command::from(postgres);
    postgres.kill_on_drop(true).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut postgres = postgres.spawn()?;
    let mut input = postgres.stdin.take().ok_or("postgres has no standard input")?;
    let statements = statements(users, balance);
    let written = async {
        input.write_all(statements.as_bytes()).await?;
        drop(input);
        io::Result::Ok(())
    };
    // What it says is read meanwhile, so that it never waits for that.
    let (written, output) = tokio::join!(written, postgres.wait_with_output());
    written?;
    let said = done("postgres", output?)?;
    if said.contains(&format!("count = \"{users}\"")) { Ok(()) } else { Err(format!("postgres said: {said}").into()) }
}

/// Makes a node of the filled folder: a primary, or a replica that follows nobody yet.
///
/// # Errors
///
/// The files cannot be copied.
pub async fn copy(filled: &Path, folder: &Path, is_replica: bool) -> RoleResult {
    make_folder(folder)?;
    let data = folder.join(DATA);
    let mut copy = as_owner(&PathBuf::from("cp"));
    copy.args(["-a", "--reflink=auto"]).arg(filled.join(DATA)).arg(&data);
    done("cp", Command::from(copy).kill_on_drop(true).output().await?)?;
    if is_replica {
        let signal = data.join("standby.signal");
        std::fs::write(&signal, b"")?;
        give_away(&signal)?;
    }
    Ok(())
}

/// Makes a folder of whoever runs the servers, who must come through the one above as well.
fn make_folder(folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    folder.parent().map_or(Ok(()), give_away)?;
    give_away(folder)
}

/// What a program said, if it ended well.
fn done(program: &str, output: Output) -> RoleResult<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        return Ok(format!("{}\n{}", text(&output.stdout), text(&output.stderr)));
    }
    Err(format!("{program}: {}", text(&output.stderr)).into())
}

/// The schema and the rows, a statement a line.
fn statements(users: u64, balance: u64) -> String {
    let rows = |row: &dyn Fn(u64) -> String| (1..=users).map(row).collect::<Vec<_>>().join(",");
    let quoted = |text: &str| text.replace('\'', "''");
    let user = |id| {
        let User { first_name, last_name, phone, .. } = User::sample(UserId(id));
        format!("({id},'{}','{}','{}')", quoted(&first_name), quoted(&last_name), quoted(&phone))
    };
    let lines = [
        schema(),
        format!("INSERT INTO users (id, first_name, last_name, phone) VALUES {};", rows(&user)),
        format!("INSERT INTO accounts (id, user_id, balance) SELECT id, id, {balance} FROM users;"),
        "VACUUM ANALYZE;".to_owned(),
        "SELECT count(*) FROM accounts;".to_owned(),
    ];
    lines.join("\n") + "\n"
}

/// That of the product, in PostgreSQL's words.
fn schema() -> String {
    let schema = sqlite::SCHEMA.replace('\n', " ").replace(") STRICT;", ");\n").replace("INTEGER", "bigint");
    schema.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_that_of_sqlite() {
        let schema = schema();
        let lines: Vec<_> = schema.lines().map(str::trim).collect();
        assert_eq!(lines.len(), 3, "{schema}");
        assert!(lines.iter().all(|line| line.starts_with("CREATE TABLE") && line.ends_with(");")), "{schema}");
        assert!(lines[1].contains("balance bigint NOT NULL CHECK (balance >= 0)"), "{schema}");
        assert!(!schema.contains("STRICT") && !schema.contains("INTEGER"), "{schema}");
    }

    #[test]
    fn statements_are_a_line_each() {
        let statements = statements(2, 500);
        assert_eq!(statements.lines().count(), 3 + 4, "{statements}");
        assert!(statements.contains("(1,'") && statements.contains("SELECT id, id, 500 FROM users"));
    }
}
