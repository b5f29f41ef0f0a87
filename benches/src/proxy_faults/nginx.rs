//! nginx: the settings that keep most requests alive. What it thinks of its backends it tells nobody.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::proxy::{Control, State};

/// How requests are spread, and which answers are asked for again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The directive for least connections, or nothing for taking turns.
    pub balance: &'static str,
    /// Whether a 500 is tried on another backend, like 502 to 504.
    pub retries_500: bool,
}

/// The configuration of one worker in front of the backends, of which those in `down` get nothing.
///
/// Time-outs are those of the other proxies: 200 ms to connect, 500 ms to answer. There are no active checks: a backend that
/// failed twice within 5 s is left alone for 5 s.
#[must_use]
pub fn config(settings: Settings, listen: SocketAddr, backends: &[SocketAddr], down: &[bool], folder: &Path) -> String {
    let Settings { balance, retries_500 } = settings;
    let folder = folder.display();
    let mut servers = String::new();
    for (index, backend) in backends.iter().enumerate() {
        let down = if down.get(index) == Some(&true) { " down" } else { "" };
        // Writing to a string cannot fail.
        let _ = writeln!(servers, "        server {backend} max_fails=2 fail_timeout=5s{down};");
    }
    format!(
        "\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log crit;
events {{
    worker_connections 8192;
}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 1000000000;
    upstream shop {{
{servers}        {balance}
        keepalive 256;
        keepalive_requests 1000000000;
    }}
    server {{
        listen {listen} backlog=4096;
        location / {{
            proxy_pass http://shop;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            proxy_connect_timeout 200ms;
            proxy_send_timeout 500ms;
            proxy_read_timeout 500ms;
            proxy_next_upstream error timeout{} http_502 http_503 http_504;
        }}
    }}
}}
",
        if retries_500 { " http_500" } else { "" }
    )
    // Without a directive, the line is empty.
    .replace("        \n", "")
}

/// Draining by a new configuration, which nginx takes over on SIGHUP.
#[derive(Debug)]
pub struct Reload {
    settings: Settings,
    listen: SocketAddr,
    backends: Vec<SocketAddr>,
    down: Vec<bool>,
    folder: PathBuf,
}

impl Reload {
    /// All backends in rotation; writes the first configuration.
    ///
    /// # Errors
    ///
    /// What writing gave.
    pub fn new(settings: Settings, listen: SocketAddr, backends: &[SocketAddr], folder: &Path) -> io::Result<Self> {
        let down = vec![false; backends.len()];
        let this = Self { settings, listen, backends: backends.to_vec(), down, folder: folder.to_owned() };
        this.write()?;
        Ok(this)
    }

    /// Where the configuration is.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.join("nginx.conf")
    }

    fn write(&self) -> io::Result<()> {
        fs::write(self.path(), config(self.settings, self.listen, &self.backends, &self.down, &self.folder))
    }
}

impl Control for Reload {
    fn states(&self) -> io::Result<Option<Vec<State>>> {
        Ok(None)
    }

    fn drain(&mut self, index: usize) -> io::Result<()> {
        self.down[index] = true;
        self.write()
    }

    fn admit(&mut self, index: usize) -> io::Result<()> {
        self.down[index] = false;
        self.write()
    }

    fn reloads(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(settings: Settings, down: &[bool]) -> String {
        let backends = [1, 2, 3].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        config(settings, SocketAddr::from(([127, 0, 0, 1], 9)), &backends, down, Path::new("/tmp/f"))
    }

    #[test]
    fn the_configuration_names_every_backend() {
        let found = text(Settings { balance: "least_conn;", retries_500: true }, &[false, true, false]);
        for line in [
            "        server 127.0.0.1:1 max_fails=2 fail_timeout=5s;",
            "        server 127.0.0.1:2 max_fails=2 fail_timeout=5s down;",
            "        least_conn;",
            "        keepalive 256;",
            "        listen 127.0.0.1:9 backlog=4096;",
            "            proxy_next_upstream error timeout http_500 http_502 http_503 http_504;",
            "pid /tmp/f/nginx.pid;",
        ] {
            assert!(found.lines().any(|other| other == line), "{line} is missing in\n{found}");
        }
    }

    #[test]
    fn taking_turns_needs_no_directive() {
        let found = text(Settings { balance: "", retries_500: false }, &[false; 3]);
        assert!(!found.contains("down") && !found.contains("http_500") && !found.contains("least_conn"));
        assert!(found.lines().all(|line| !line.trim().is_empty()), "{found}");
    }
}
