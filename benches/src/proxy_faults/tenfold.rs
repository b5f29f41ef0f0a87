//! The load balancer's own proxy: how it is built, started, and told to drain.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use serde::Deserialize;

use super::fleet::ask;
use super::proxy::{Control, State};

/// The arguments for one thread in front of the backends; `policy` as the proxy names it, or its default. All else is as the
/// proxy comes: it needs no settings for faults.
#[must_use]
pub fn arguments(policy: Option<&str>, listen: SocketAddr, admin: SocketAddr, backends: &[SocketAddr]) -> Vec<String> {
    let mut arguments = Vec::new();
    let mut add = |option: &str, value: String| arguments.extend([option.to_owned(), value]);
    add("--listen", listen.to_string());
    add("--admin", admin.to_string());
    add("--threads", "1".to_owned());
    add("--health-path", "/health".to_owned());
    backends.iter().for_each(|backend| add("--backend", backend.to_string()));
    if let Some(policy) = policy {
        add("--policy", policy.to_owned());
    }
    arguments
}

/// Why there is no proxy of ours.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// cargo could not be run.
    #[error("cargo cannot be run")]
    Cargo(#[source] io::Error),
    /// It ran and failed, and has said why.
    #[error("cargo did not build the example `proxy`")]
    Failed,
    /// It did not say where the executable is.
    #[error("cargo named no executable")]
    Unnamed,
}

/// Builds the example `proxy`, which is done in a moment if it is built already, and gives where it is.
///
/// # Errors
///
/// [`BuildError`].
pub fn build() -> Result<PathBuf, BuildError> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "build",
            "--quiet",
            "--release",
            "-p",
            "tenfold-load-balancer",
            "--features",
            "proxy",
            "--example",
            "proxy",
        ])
        .arg("--message-format=json-render-diagnostics")
        .stderr(std::process::Stdio::inherit())
        .output()
        .map_err(BuildError::Cargo)?;
    if !output.status.success() {
        return Err(BuildError::Failed);
    }
    executable(&String::from_utf8_lossy(&output.stdout)).ok_or(BuildError::Unnamed)
}

/// Finds the example's executable among cargo's messages, one JSON object a line.
fn executable(messages: &str) -> Option<PathBuf> {
    #[derive(Deserialize)]
    struct Message {
        target: Option<Target>,
        executable: Option<PathBuf>,
    }
    #[derive(Deserialize)]
    struct Target {
        name: String,
        kind: Vec<String>,
    }
    let found = messages.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok()).filter(|message| {
        message.target.as_ref().is_some_and(|target| target.name == "proxy" && target.kind == ["example"])
    });
    found.filter_map(|message| message.executable).next_back()
}

/// The admin address.
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    backends: Vec<SocketAddr>,
}

impl Admin {
    /// The proxy that answers there has these backends.
    #[must_use]
    pub fn new(address: SocketAddr, backends: &[SocketAddr]) -> Self {
        Self { address, backends: backends.to_vec() }
    }

    fn post(&self, what: &str, index: usize) -> io::Result<()> {
        ask(self.address, "POST", &format!("/backends/{what}?addr={}", self.backends[index])).map(drop)
    }
}

impl Control for Admin {
    fn states(&self) -> io::Result<Option<Vec<State>>> {
        let text = ask(self.address, "GET", "/backends")?;
        states(&text, &self.backends).map(Some).ok_or_else(|| io::Error::other(format!("cannot be read: {text}")))
    }

    fn drain(&mut self, index: usize) -> io::Result<()> {
        self.post("drain", index)
    }

    fn admit(&mut self, index: usize) -> io::Result<()> {
        self.post("add", index)
    }
}

/// Reads `GET /backends`. A backend that is not in the list, as it was removed, is not in rotation.
fn states(text: &str, backends: &[SocketAddr]) -> Option<Vec<State>> {
    #[derive(Deserialize)]
    struct Listed {
        address: SocketAddr,
        state: String,
        in_flight: u64,
    }
    let listed: Vec<Listed> = serde_json::from_str(text).ok()?;
    let state = |backend: &SocketAddr| {
        let found = listed.iter().find(|listed| listed.address == *backend);
        found.map_or(State { is_in_rotation: false, in_flight: 0 }, |listed| State {
            is_in_rotation: ["healthy", "warming"].contains(&listed.state.as_str()),
            in_flight: listed.in_flight,
        })
    };
    Some(backends.iter().map(state).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn arguments_name_every_backend() {
        let text = arguments(Some("p2c"), address(9), address(8), &[address(1), address(2)]).join(" ");
        assert_eq!(
            text,
            "--listen 127.0.0.1:9 --admin 127.0.0.1:8 --threads 1 --health-path /health --backend 127.0.0.1:1 \
             --backend 127.0.0.1:2 --policy p2c"
        );
    }

    #[test]
    fn the_executable_is_that_of_the_example() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"tokio","kind":["lib"]},"executable":null}
{"reason":"compiler-artifact","target":{"name":"proxy","kind":["example"]},"executable":"/t/release/examples/proxy"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(executable(messages), Some(PathBuf::from("/t/release/examples/proxy")));
        assert_eq!(executable("{}"), None);
    }

    #[test]
    fn backends_are_found_by_address() {
        let text = r#"[{"address":"127.0.0.1:2","state":"ejected","in_flight":3,"more":[]},
            {"address":"127.0.0.1:1","state":"healthy","in_flight":1},
            {"address":"127.0.0.1:4","state":"warming","in_flight":0}]"#;
        let states = states(text, &[1, 2, 3, 4].map(address)).unwrap();
        let expected = [(true, 1), (false, 3), (false, 0), (true, 0)];
        assert_eq!(states, expected.map(|(is_in_rotation, in_flight)| State { is_in_rotation, in_flight }));
    }
}
