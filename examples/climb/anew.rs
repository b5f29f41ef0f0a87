//! An engine that this build lacks: the climb is built anew with it, and goes on as that.
//!
//! Who does not ask for a real server does not build its client: `cargo climb` by itself stays small.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use crate::args::Engines;

/// Why the climb does not go on with what it lacks.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Lacks {
    /// Nobody knows how it was built.
    #[error(
        "this build lacks the feature `{0}`; `cargo climb` adds it by itself, and so does \
         `cargo run --release -p tenfold-examples --features {0} --bin climb -- ...`"
    )]
    NotByCargo(String),
    /// Cargo does not start.
    #[error("{program:?} does not start: {source}")]
    NoCargo { program: OsString, source: io::Error },
}

/// The features that these engines need and this build has not.
pub(crate) fn lacking(engines: Engines) -> Vec<&'static str> {
    let all =
        [("postgres", engines.postgres, cfg!(feature = "postgres")), ("nats", engines.nats, cfg!(feature = "nats"))];
    all.into_iter().filter(|(_, is_wanted, is_built)| *is_wanted && !is_built).map(|(name, ..)| name).collect()
}

/// Becomes a climb with the same arguments that has these features as well. Returns if that does not begin.
pub(crate) fn with(features: &[&str]) -> Lacks {
    let features = features.join(",");
    // Cargo says so to what it runs.
    let (Some(program), Some(folder)) = (std::env::var_os("CARGO"), std::env::var_os("CARGO_MANIFEST_DIR")) else {
        return Lacks::NotByCargo(features);
    };
    eprintln!("this build lacks the feature `{features}`: going on as one that has it, which cargo builds if need be");
    let mut cargo = Command::new(&program);
    cargo.args(["run", "--release", "--bin", "climb", "--features", &features, "--manifest-path"]);
    cargo.arg(PathBuf::from(folder).join("Cargo.toml")).arg("--").args(std::env::args_os().skip(1));
    Lacks::NoCargo { program, source: cargo.exec() }
}
