//! Keeps a replica up with its primary for as long as a connection to the primary's process is open.

use std::time::Duration;

use tenfold_replication::Node;
use tenfold_replication::driver::sqlite::SqliteDriver;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::wire::Peer;

/// A primary that cannot be reached is tried again so soon.
const RETRY: Duration = Duration::from_millis(20);

/// Whom a node follows, and whom it is kept from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Link {
    /// The primary that it was told to follow.
    pub(super) upstream: Option<Peer>,
    /// The node that the network does not let it reach.
    pub(super) cut_from: Option<u16>,
}

impl Link {
    fn reachable(self) -> Option<Peer> {
        self.upstream.filter(|peer| Some(peer.id) != self.cut_from)
    }
}

/// Receives and applies the log of whoever is to be followed, without end.
pub(super) async fn keep_up(driver: SqliteDriver, node: Node, mut link: watch::Receiver<Link>) {
    loop {
        let reachable = link.borrow_and_update().reachable();
        let Some(peer) = reachable else {
            if link.changed().await.is_err() {
                return;
            }
            continue;
        };
        if let Ok(stream) = TcpStream::connect(peer.address).await {
            tokio::select! {
                () = broken(stream) => {}
                _ = driver.serve(&node) => {}
                _ = link.changed() => continue,
            }
        }
        tenfold_rig::sleep(RETRY).await;
    }
}

/// Until the process at the other end is gone: it never says anything here.
async fn broken(mut stream: TcpStream) {
    // An end of the stream and an error mean the same.
    let _ = stream.read(&mut [0]).await;
}
