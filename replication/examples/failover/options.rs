//! What the example was asked for.

use std::path::PathBuf;
use std::time::Duration;

use tenfold_replication::Mode;

use super::Failure;

/// What is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Primary,
    Replica,
    /// The primary, after its links to the replicas.
    Partition,
}

pub(crate) struct Options {
    pub(crate) engine: String,
    pub(crate) mode: Mode,
    pub(crate) fault: Fault,
    pub(crate) time: Duration,
    pub(crate) json: Option<PathBuf>,
}

impl Options {
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let (mut is_quick, mut seconds) = (false, None);
        let mut options = Self {
            engine: "sqlite".into(),
            mode: Mode::Asynchronous,
            fault: Fault::Primary,
            time: Duration::ZERO,
            json: None,
        };
        while let Some(word) = words.next() {
            if word == "--quick" {
                is_quick = true;
                continue;
            }
            let value = words.next().ok_or_else(|| format!("{word} is no option, or takes a value"))?;
            match word.as_str() {
                "--engine" => options.engine = value,
                "--mode" => options.mode = mode(&value)?,
                "--kill" => options.fault = fault(&value)?,
                "--seconds" => seconds = Some(value.parse()?),
                "--json" => options.json = Some(value.into()),
                _ => return Err(format!("there is no option {word}").into()),
            }
        }
        let default = if is_quick { 1.5 } else { 6.0 };
        options.time = Duration::try_from_secs_f64(seconds.unwrap_or(default))?;
        Ok(options)
    }

    pub(crate) fn mode_name(&self) -> &'static str {
        match self.mode {
            Mode::Asynchronous => "asynchronous",
            Mode::SemiSynchronous { .. } => "semi",
            Mode::Quorum { .. } => "quorum",
        }
    }

    pub(crate) fn fault_name(&self) -> &'static str {
        match self.fault {
            Fault::Primary => "primary",
            Fault::Replica => "replica",
            Fault::Partition => "partition",
        }
    }
}

fn mode(name: &str) -> Result<Mode, Failure> {
    match name {
        "asynchronous" => Ok(Mode::Asynchronous),
        "semi" => Ok(Mode::SemiSynchronous { timeout: Duration::from_millis(100) }),
        "quorum" => Ok(Mode::quorum(1)),
        other => Err(format!("there is no mode {other}").into()),
    }
}

fn fault(name: &str) -> Result<Fault, Failure> {
    match name {
        "primary" => Ok(Fault::Primary),
        "replica" => Ok(Fault::Replica),
        "partition" => Ok(Fault::Partition),
        other => Err(format!("there is no fault {other}").into()),
    }
}
