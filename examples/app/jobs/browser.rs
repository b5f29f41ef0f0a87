//! A browser that listens to the notifications of a user.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::job::JobKey;

/// How often each event was seen, by all browsers that share it.
#[derive(Debug, Clone, Default)]
pub struct Seen(Arc<Mutex<BTreeMap<JobKey, u64>>>);

impl Seen {
    /// How often each event was seen.
    pub fn counts(&self) -> BTreeMap<JobKey, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn see(&self, key: JobKey) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default() += 1;
    }
}

/// Opens the stream of a user's events and reads it until it ends.
///
/// # Errors
///
/// The web server cannot be reached, or goes away.
pub async fn browse(web: SocketAddr, user: u64, seen: Seen) -> io::Result<()> {
    let mut stream = BufReader::new(TcpStream::connect(web).await?);
    let request = format!("GET /events/{user} HTTP/1.1\r\nhost: {web}\r\naccept: text/event-stream\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut lines = stream.lines();
    while let Some(line) = lines.next_line().await? {
        // The lengths of chunks stand on lines of their own, and are no field of an event.
        if let Some(key) = line.strip_prefix("id: ").and_then(|id| JobKey::new(id).ok()) {
            seen.see(key);
        }
    }
    Ok(())
}
