//! The example for scripts, `durable`, as scripts see it: what it prints, where, and its exit code.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::SystemTime;

/// Exit code, stdout, stderr.
type Said = (i32, String, String);

fn durable(arguments: &[&str], stdin: &str) -> Said {
    let mut child = Command::new(executable())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that does not read its input has ended by now, perhaps.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// A folder that is not there, and is removed in the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tenfold-mq-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn lines_go_in_and_come_out() {
    let folder = Folder::new("lines");
    let dir = folder.path();
    assert_eq!(durable(&["send", "--dir", dir], "a\nb\n"), (0, "0\n1\n".into(), String::new()));
    assert_eq!(durable(&["recv", "--dir", dir, "--idle-exit-ms", "0"], "").1, "0\ta\n1\tb\n");
    let (code, stats, _) = durable(&["stat", "--dir", dir], "");
    assert_eq!(code, 0);
    assert!(stats.starts_with("{\"messages\": 2, "), "{stats}");
    assert_eq!(durable(&["recv", "--dir", dir, "--ack", "--idle-exit-ms", "0"], "").1, "0\ta\n1\tb\n");
    assert_eq!(durable(&["recv", "--dir", dir, "--idle-exit-ms", "0"], "").1, "");
    assert_eq!(durable(&["verify", "--dir", dir], "").0, 0);
}

#[test]
fn where_there_is_no_queue_only_a_sender_begins_one() {
    let folder = Folder::new("none");
    let dir = folder.path();
    let said = (1, String::new(), format!("durable: {dir}: there is no queue\n"));
    let commands: [&[&str]; 3] =
        [&["stat", "--dir", dir], &["recv", "--dir", dir, "--idle-exit-ms", "0"], &["verify", "--dir", dir]];
    for command in commands {
        assert_eq!(durable(command, ""), said, "{command:?}");
        assert!(!folder.0.exists(), "{command:?} made it");
    }
    std::fs::create_dir(dir).unwrap();
    for command in commands {
        assert_eq!(durable(command, ""), said, "{command:?} of an empty folder");
    }
    assert_eq!(durable(&["send", "--dir", dir], "").0, 0);
    assert_eq!(durable(&["stat", "--dir", dir], "").0, 0);
}

#[test]
fn wrong_arguments_are_named() {
    let faults: [(&[&str], &str); 10] = [
        (&[], "a command is missing"),
        (&["sned"], "no command `sned`"),
        (&["stat"], "--dir is missing"),
        (&["stat", "--dir"], "--dir needs a value"),
        (&["stat", "--dir", "d", "--ack"], "no option `--ack` of this command"),
        (&["send", "--dir", "d", "--sink", "os"], "no option `--sink` of this command"),
        (&["send", "--dir", "d", "--sync", "never"], "--sync is always, interval or os, not `never`"),
        (&["send", "--dir", "d", "--producers", "0"], "--producers is a number from 1 to 1024, not `0`"),
        (&["recv", "--dir", "d", "--idle-exit-ms", "1s"], "--idle-exit-ms is a number of milliseconds, not `1s`"),
        (&["recv", "--dir", "d", "more"], "no option `more` of this command"),
    ];
    for (arguments, fault) in faults {
        let (code, out, err) = durable(arguments, "");
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}");
        assert!(err.starts_with(&format!("durable: {fault}\nusage: durable ")), "{arguments:?}: {err}");
    }
}

#[test]
fn help_is_asked_for_and_printed() {
    for arguments in [&["--help"][..], &["help"], &["stat", "--help"]] {
        let (code, out, err) = durable(arguments, "");
        assert_eq!((code, err.as_str()), (0, ""));
        assert!(out.starts_with("usage: durable send --dir D"), "{out}");
    }
}

/// The example beside this test in the target folder; built now if only this test was, and it is missing or old.
fn executable() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let test = std::env::current_exe().unwrap();
        let profile = test.parent().and_then(Path::parent).unwrap();
        let path = profile.join("examples").join("durable");
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let sources = ["src", "examples/durable"].map(|folder| newest(&package.join(folder)));
        if !sources.iter().all(|source| *source < changed(&path)) {
            let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            cargo.args(["build", "--example", "durable", "--manifest-path"]).arg(package.join("Cargo.toml"));
            if profile.ends_with("release") {
                cargo.arg("--release");
            }
            assert!(cargo.status().unwrap().success());
        }
        path
    })
}

/// When the youngest file in a folder was changed.
fn newest(folder: &Path) -> Option<SystemTime> {
    let entries = std::fs::read_dir(folder).unwrap().map_while(Result::ok);
    entries
        .map(|entry| if entry.path().is_dir() { newest(&entry.path()) } else { changed(&entry.path()) })
        .max()
        .flatten()
}

fn changed(file: &Path) -> Option<SystemTime> {
    file.metadata().and_then(|metadata| metadata.modified()).ok()
}
