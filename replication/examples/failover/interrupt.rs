//! Ctrl-C and SIGTERM end the program in order: what it has started ends with it.

use std::future::Future;

use tokio::signal::unix::{SignalKind, signal};

use super::Failure;

/// Gives the work up when the program is told to end; dropped, it ends its servers.
pub(crate) async fn or_interrupted<F: Future<Output = Result<(), Failure>>>(work: F) -> Result<(), Failure> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        result = work => result,
        _ = interrupt.recv() => Err("interrupted".into()),
        _ = terminate.recv() => Err("told to end".into()),
    }
}
