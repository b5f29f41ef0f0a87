//! Which sockets a process listens on, read from procfs: the kernel's word, not the process's own.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

/// The protocol of a listening socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// A TCP listener.
    Tcp,
    /// A UDP socket that anybody may send to.
    Udp,
}

const TCP_LISTEN: &str = "0A";
const UDP_UNCONNECTED: &str = "07";

/// The IPv4 sockets on which process `pid` waits for strangers.
///
/// # Errors
///
/// The process is gone, or procfs cannot be read.
pub fn listening(pid: u32) -> io::Result<BTreeSet<(Protocol, SocketAddr)>> {
    let mut owned = BTreeSet::new();
    for entry in std::fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd"))? {
        // A descriptor may be closed between the listing and the look.
        let Ok(link) = std::fs::read_link(entry?.path()) else { continue };
        let inode = link.to_str().and_then(|link| link.strip_prefix("socket:[")).and_then(|l| l.strip_suffix(']'));
        owned.extend(inode.map(str::to_owned));
    }
    let mut found = BTreeSet::new();
    for (protocol, table, state) in
        [(Protocol::Tcp, "/proc/net/tcp", TCP_LISTEN), (Protocol::Udp, "/proc/net/udp", UDP_UNCONNECTED)]
    {
        for line in std::fs::read_to_string(table)?.lines().skip(1) {
            let columns: Vec<_> = line.split_ascii_whitespace().collect();
            let [_, local, _, at, ..] = columns.as_slice() else { continue };
            if *at == state && columns.get(9).is_some_and(|inode| owned.contains(*inode)) {
                found.extend(address(local).map(|address| (protocol, address)));
            }
        }
    }
    Ok(found)
}

/// Reads `0100007F:1F90`: the address in the machine's byte order, the port as a number.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let ip = u32::from_str_radix(ip, 16).ok()?;
    let port = u16::from_str_radix(port, 16).ok()?;
    Some((Ipv4Addr::from(ip.to_ne_bytes()), port).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};

    #[test]
    fn finds_what_this_process_listens_on() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let found = listening(std::process::id()).unwrap();
        assert!(found.contains(&(Protocol::Tcp, tcp.local_addr().unwrap())));
        assert!(found.contains(&(Protocol::Udp, udp.local_addr().unwrap())));
    }
}
