//! The network between two servers: a socket here, and whatever comes in goes to the server over there, until it is cut.

use std::io;
use std::path::Path;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

use super::give_away;
use super::postmaster::socket;

/// Begins a way from the socket in `folder`, which is made, to the server whose socket is in `to`. It is cut as soon as
/// `cut` says so, for connections that there are and for new ones.
pub(super) fn begin(folder: &Path, to: &Path, cut: watch::Receiver<bool>) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let (from, to) = (socket(folder), socket(to));
    // One that a process left that was killed.
    let _ = std::fs::remove_file(&from);
    let listener = UnixListener::bind(&from)?;
    give_away(&from)?;
    tokio::spawn(async move {
        while let Ok((here, _)) = listener.accept().await {
            let (to, cut) = (to.clone(), cut.clone());
            tokio::spawn(async move { carry(here, &to, cut).await });
        }
    });
    Ok(())
}

/// A connection, from its beginning to its end.
async fn carry(mut here: UnixStream, to: &Path, mut cut: watch::Receiver<bool>) {
    let carried = async {
        // Whoever asks finds the connection closed: as good as refused.
        if let Ok(mut there) = UnixStream::connect(to).await {
            let _ = tokio::io::copy_bidirectional(&mut here, &mut there).await;
        }
    };
    tokio::select! {
        biased;
        _ = cut.wait_for(|is_cut| *is_cut) => {}
        () = carried => {}
    }
}
