//! Several cache servers, one owner a key: rendezvous hashing.
//!
//! Every server gets a score for every key; the live server with the highest score owns the key. When one of n servers
//! goes, its keys, about 1/n of all, move to the runners-up, and no other key moves. There is no table to keep and
//! nothing to agree on: whoever knows the same servers finds the same owner.
//!
//! A server that fails to answer is passed over for a while. Two web servers may disagree for that while about who owns
//! a key, and several servers may hold it. So whoever changes a key tells all of them, and the change is acknowledged
//! when each has confirmed or is dead, its memory with it: a server that merely hangs would serve its old copy when it
//! wakes. That makes writes wait for the slowest cache server; where they must not, acknowledge at once and let the time
//! to live bound how long an old copy is served.
//!
//! Source: Thaler and Ravishankar, "Using name-based mappings to increase hit rates", IEEE/ACM Transactions on
//! Networking 6 (1998).

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use tenfold_rig::{Instant, now};

use crate::http::{Answer, CallError, Http};

const TIMEOUT: Duration = Duration::from_millis(500);
const PASSED_OVER_FOR: Duration = Duration::from_millis(500);
/// A server that does not confirm is asked again, after so long, until so much time has passed.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(20);
/// See `ASK_AGAIN_AFTER`.
const CONFIRM_WITHIN: Duration = Duration::from_secs(2);

/// The cache servers as one client sees them.
#[derive(Debug)]
pub struct Ring {
    servers: Vec<Server>,
    http: Http,
    since: Instant,
}

#[derive(Debug)]
struct Server {
    address: SocketAddr,
    /// Milliseconds after `Ring::since` until which the server is passed over.
    down_until: AtomicU64,
}

impl Ring {
    /// The ring of `servers`, all taken to be up; none at all is a ring that never answers.
    pub fn new(servers: impl IntoIterator<Item = SocketAddr>) -> Self {
        let server = |address| Server { address, down_until: AtomicU64::new(0) };
        Self { servers: servers.into_iter().map(server).collect(), http: Http::new(TIMEOUT), since: now() }
    }

    /// The live server that owns `key`, `None` if none is up.
    pub fn owner(&self, key: u64) -> Option<SocketAddr> {
        self.live_owner(key).map(|server| server.address)
    }

    /// Sends a request about `key` to its owner; returns who that is and what it says. `None` means that no cache
    /// answered: go on without.
    ///
    /// A server that does not answer within half a second is passed over for the next half second.
    pub async fn ask(&self, key: u64, method: Method, path: &str) -> Option<(SocketAddr, Answer)> {
        let server = self.live_owner(key)?;
        match self.http.call(method, server.address, path, Bytes::new()).await {
            Ok(answer) if !answer.status.is_server_error() => Some((server.address, answer)),
            // The server works but could not reach the database: its health is not in doubt.
            Ok(_) => None,
            Err(_) => {
                let until = self.elapsed_ms() + PASSED_OVER_FOR.as_millis() as u64;
                server.down_until.store(until, Ordering::Relaxed);
                None
            }
        }
    }

    /// Tells one server something that it need not hear.
    pub async fn tell(&self, server: SocketAddr, method: Method, path: &str, body: Bytes) {
        let _ = self.http.call(method, server, path, body).await;
    }

    /// Has every server drop the entry at `path`, those that are passed over included.
    ///
    /// # Errors
    ///
    /// [`CallError::TimedOut`] if one neither confirms nor refuses connections within 2 seconds.
    pub async fn drop_everywhere(&self, path: &str) -> Result<(), CallError> {
        let servers = self.servers.iter().map(|server| self.drop_at(server.address, path));
        futures_util::future::try_join_all(servers).await.map(drop)
    }

    async fn drop_at(&self, server: SocketAddr, path: &str) -> Result<(), CallError> {
        let until = now() + CONFIRM_WITHIN;
        loop {
            match self.http.call(Method::DELETE, server, path, Bytes::new()).await {
                Ok(answer) if answer.status.is_success() => return Ok(()),
                Err(CallError::Refused) => return Ok(()),
                _ if now() >= until => return Err(CallError::TimedOut),
                _ => tenfold_rig::sleep(ASK_AGAIN_AFTER).await,
            }
        }
    }

    fn live_owner(&self, key: u64) -> Option<&Server> {
        let now = self.elapsed_ms();
        let live = self.servers.iter().filter(|server| server.down_until.load(Ordering::Relaxed) <= now);
        live.max_by_key(|server| score(server.address, key))
    }

    fn elapsed_ms(&self) -> u64 {
        (now() - self.since).as_millis() as u64
    }
}

/// The owner of `key` among `servers`: the rule by itself, for whoever wants to predict it.
pub fn owner_of(servers: &[SocketAddr], key: u64) -> Option<SocketAddr> {
    servers.iter().copied().max_by_key(|address| score(*address, key))
}

/// A score that depends on nothing but the server's address and the key, so every process computes the same.
fn score(address: SocketAddr, key: u64) -> u64 {
    let ip = match address.ip() {
        std::net::IpAddr::V4(ip) => u128::from(u32::from(ip)),
        std::net::IpAddr::V6(ip) => u128::from(ip),
    };
    let server = mix((ip as u64) ^ ((ip >> 64) as u64) ^ (u64::from(address.port()) << 32));
    mix(server ^ mix(key))
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): every input bit reaches every output bit.
fn mix(mut bits: u64) -> u64 {
    bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers() -> Vec<SocketAddr> {
        (0..3).map(|port| SocketAddr::from(([127, 0, 0, 1], 7000 + port))).collect()
    }

    #[test]
    fn keys_spread_evenly_and_only_the_lost_servers_keys_move() {
        let (all, two) = (servers(), servers()[..2].to_vec());
        let lost = all[2];
        let mut moved = 0;
        for key in 0..30_000 {
            let (before, after) = (owner_of(&all, key).unwrap(), owner_of(&two, key).unwrap());
            if before == lost {
                moved += 1;
            } else {
                assert_eq!(before, after, "key {key} moved without need");
            }
        }
        assert!((9_700..=10_300).contains(&moved), "{moved} of 30000 keys moved");
    }

    #[test]
    fn an_empty_ring_owns_nothing() {
        assert_eq!(Ring::new([]).owner(1), None);
        assert_eq!(owner_of(&[], 1), None);
    }
}
