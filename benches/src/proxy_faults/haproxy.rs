//! haproxy: the settings that keep most requests alive, and its runtime socket.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::proxy::{Control, State};

/// How requests are spread, and which answers are asked for again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The word behind `balance`.
    pub balance: &'static str,
    /// Whether a 500 is tried on another backend, like 502 to 504.
    pub retries_500: bool,
}

/// The configuration of one thread in front of the backends, with its runtime socket in `folder`.
///
/// Time-outs are those of the other proxies: 200 ms to connect, 500 ms to answer. Checks every 200 ms, two for a verdict, and
/// three bad answers in a row mark a backend down without waiting for a check.
#[must_use]
pub fn config(settings: Settings, listen: SocketAddr, backends: &[SocketAddr], folder: &Path) -> String {
    let Settings { balance, retries_500 } = settings;
    let also = if retries_500 { " 500" } else { "" };
    let socket = socket_path(folder);
    let mut config = format!(
        "\
global
    nbthread 1
    maxconn 8192
    stats socket {} mode 600 level admin
defaults
    mode http
    timeout connect 200ms
    timeout server 500ms
    timeout client 30s
    timeout http-keep-alive 60s
    retries 3
    option redispatch 1
    retry-on conn-failure empty-response response-timeout 502 503 504{also}
    http-reuse always
frontend load
    bind {listen}
    default_backend shop
backend shop
    balance {balance}
    option httpchk GET /health
    default-server check inter 200ms fall 2 rise 2 observe layer7 error-limit 3 on-error mark-down
",
        socket.display()
    );
    for (index, backend) in backends.iter().enumerate() {
        // Writing to a string cannot fail.
        let _ = writeln!(config, "    server s{index} {backend}");
    }
    config
}

fn socket_path(folder: &Path) -> PathBuf {
    folder.join("haproxy.sock")
}

/// The runtime socket.
#[derive(Debug)]
pub struct Runtime {
    socket: PathBuf,
}

impl Runtime {
    /// The socket in the folder that [`config`] was given.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { socket: socket_path(folder) }
    }

    fn ask(&self, command: &str) -> io::Result<String> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        writeln!(stream, "{command}")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    }

    fn set_state(&self, index: usize, state: &str) -> io::Result<()> {
        let answer = self.ask(&format!("set server shop/s{index} state {state}"))?;
        if answer.trim().is_empty() { Ok(()) } else { Err(io::Error::other(answer.trim().to_owned())) }
    }
}

impl Control for Runtime {
    fn states(&self) -> io::Result<Option<Vec<State>>> {
        Ok(states(&self.ask("show stat")?))
    }

    fn drain(&mut self, index: usize) -> io::Result<()> {
        self.set_state(index, "drain")
    }

    fn admit(&mut self, index: usize) -> io::Result<()> {
        self.set_state(index, "ready")
    }
}

/// Reads `show stat`: CSV with a head that begins with `# `. A server is in rotation while its status begins with `UP`.
fn states(csv: &str) -> Option<Vec<State>> {
    let mut lines = csv.lines();
    let head: Vec<&str> = lines.next()?.trim_start_matches("# ").split(',').collect();
    let column = |name| head.iter().position(|&column| column == name);
    let (proxy, server, current, status) = (column("pxname")?, column("svname")?, column("scur")?, column("status")?);
    let mut states = Vec::new();
    for line in lines {
        let fields: Vec<&str> = line.split(',').collect();
        if fields.get(proxy) == Some(&"shop") && fields.get(server).is_some_and(|name| *name != "BACKEND") {
            let is_in_rotation = fields.get(status)?.starts_with("UP");
            states.push(State { is_in_rotation, in_flight: fields.get(current)?.parse().ok()? });
        }
    }
    Some(states)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_names_every_backend() {
        let backends = [1, 2, 3].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let settings = Settings { balance: "leastconn", retries_500: false };
        let text = config(settings, SocketAddr::from(([127, 0, 0, 1], 9)), &backends, Path::new("/tmp/f"));
        for line in [
            "    balance leastconn",
            "    bind 127.0.0.1:9",
            "    server s0 127.0.0.1:1",
            "    server s2 127.0.0.1:3",
            "    stats socket /tmp/f/haproxy.sock mode 600 level admin",
            "    retry-on conn-failure empty-response response-timeout 502 503 504",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
        let settings = Settings { retries_500: true, ..settings };
        let text = config(settings, SocketAddr::from(([127, 0, 0, 1], 9)), &backends, Path::new("/tmp/f"));
        assert!(text.contains("502 503 504 500\n"));
    }

    #[test]
    fn states_of_servers_only() {
        let csv = "# pxname,svname,qcur,scur,status,\nload,FRONTEND,,7,OPEN,\nshop,s0,0,2,UP,\nshop,s1,0,0,DOWN,\n\
            shop,s2,0,1,UP 1/2,\nshop,BACKEND,0,3,UP,\n\n";
        let up = |in_flight| State { is_in_rotation: true, in_flight };
        let down = State { is_in_rotation: false, in_flight: 0 };
        assert_eq!(states(csv), Some(vec![up(2), down, up(1)]));
        assert_eq!(states("Unknown command"), None);
    }
}
