//! From a specification to a process that serves, and the words it leaves behind if it does not.

use std::io;
use std::net::SocketAddr;
use std::process::{ChildStderr, ChildStdout};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};

use super::{Live, NodeSpec, StartError};
use crate::role::{FailureKind, Handshake, Spec};
use crate::spawner;

const MAX_HANDSHAKE_BYTES: u64 = 64 * 1024;
const MAX_TAIL_BYTES: usize = 8 * 1024;
const TAIL_LINES: usize = 12;
/// How long the last words of a dead child may take to arrive.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_millis(500);

pub(super) async fn launch(spec: &NodeSpec, bind: SocketAddr, bind_attempts: u32) -> Result<Live, StartError> {
    let name = spec.name.clone();
    if !spec.is_out_of_reach() {
        return Err(StartError::NotLoopback { name, ip: bind.ip() });
    }
    let order = Spec {
        role: spec.role.clone(),
        name: spec.name.clone(),
        bind,
        bind_attempts,
        threads: spec.threads,
        parent: std::process::id().cast_signed(),
        config: spec.config.clone(),
    };
    let json =
        serde_json::to_string(&order).map_err(|e| StartError::Config { name: name.clone(), message: e.to_string() })?;
    let no_process = |source| StartError::Process { name: name.clone(), source };
    let mut process = spawner::spawn(spec.name.clone(), json).await.map_err(no_process)?;
    let (stdout, stderr) = process.take_output();
    let stderr = Tail::follow(stderr).map_err(no_process)?;
    let spoken = tokio::time::timeout(spec.ready_timeout, first_line(stdout)).await;
    let line = match spoken {
        Err(_) => return Err(StartError::TimedOut { name, after: spec.ready_timeout, stderr: stderr.text() }),
        Ok(line) => line.map_err(no_process)?,
    };
    if line.is_empty() {
        let status = process.kill().map_err(no_process)?;
        return Err(StartError::Died { name, status, stderr: stderr.last_words().await });
    }
    match serde_json::from_str(&line) {
        Ok(Handshake::Ready { addr, announced }) => Ok(Live { process, addr, announced, stderr }),
        Ok(Handshake::Failed { kind, message }) => Err(match kind {
            FailureKind::UnknownRole => StartError::UnknownRole { name, message },
            FailureKind::Config => StartError::Config { name, message },
            FailureKind::Bind => StartError::Bind { name, message },
            FailureKind::Role => StartError::Role { name, message },
        }),
        Err(_) => Err(StartError::NotReady { name, line: line.trim_end().to_owned() }),
    }
}

/// The first line of a child's stdout, empty if it ended without one; what follows is read and dropped.
async fn first_line(stdout: Option<ChildStdout>) -> io::Result<String> {
    let stdout = stdout.ok_or_else(|| io::Error::other("the child has no stdout"))?;
    let mut reader = BufReader::new(tokio::process::ChildStdout::from_std(stdout)?);
    let mut line = String::new();
    (&mut reader).take(MAX_HANDSHAKE_BYTES).read_line(&mut line).await?;
    tokio::spawn(async move { tokio::io::copy(&mut reader, &mut tokio::io::sink()).await });
    Ok(line)
}

/// The end of what a child writes to stderr, in bounded memory.
#[derive(Clone, Debug)]
pub(super) struct Tail {
    bytes: Arc<Mutex<Vec<u8>>>,
    ended: tokio::sync::watch::Receiver<bool>,
}

impl Tail {
    fn follow(stderr: Option<ChildStderr>) -> io::Result<Self> {
        let (done, ended) = tokio::sync::watch::channel(false);
        let bytes = Arc::new(Mutex::new(Vec::new()));
        if let Some(stderr) = stderr {
            let reader = tokio::process::ChildStderr::from_std(stderr)?;
            let bytes = bytes.clone();
            tokio::spawn(async move {
                keep_tail(reader, &bytes).await;
                // Nobody may be waiting for the end.
                let _ = done.send(true);
            });
        }
        Ok(Self { bytes, ended })
    }

    pub(super) fn text(&self) -> String {
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }

    async fn last_words(mut self) -> String {
        // Late words are lost, as is a reader that failed: what there is, is shown.
        let _ = tokio::time::timeout(LAST_WORDS_TIMEOUT, self.ended.wait_for(|ended| *ended)).await;
        self.text()
    }
}

async fn keep_tail(mut reader: impl AsyncRead + Unpin, tail: &Mutex<Vec<u8>>) {
    let mut chunk = [0; 1024];
    while let Ok(n @ 1..) = reader.read(&mut chunk).await {
        let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.extend_from_slice(&chunk[..n]);
        let excess = tail.len().saturating_sub(MAX_TAIL_BYTES);
        tail.drain(..excess);
    }
}
