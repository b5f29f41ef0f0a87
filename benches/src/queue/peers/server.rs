//! Servers on loopback, which end with whoever started them.

use std::ffi::OsStr;
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use nix::unistd::Pid;

use super::super::Trouble;
use crate::clock::Stopwatch;
use crate::proxy_faults::process::Process;

/// How long a server may take until it accepts connections; one with a million messages reads them first.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server and its port.
pub(super) struct Server {
    process: Process,
    port: u16,
}

impl Server {
    /// Starts a command that listens on the port it is given, and waits until it does.
    pub(super) fn start(command: &str, arguments: impl FnOnce(u16) -> Vec<String>) -> Result<Self, Trouble> {
        let port = free_port()?;
        let is_loud = std::env::var_os("TENFOLD_QUEUE_STDERR").is_some();
        let process = Process::start(OsStr::new(command), &arguments(port), is_loud)?;
        let mut server = Self { process, port };
        let stopwatch = Stopwatch::start();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if !server.process.is_alive()? {
                return Err(format!("{command} is missing, or ended at once").into());
            }
            if stopwatch.elapsed() > PATIENCE {
                return Err(format!("{command} does not listen").into());
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(server)
    }

    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(super) fn pid(&self) -> Pid {
        self.process.pid()
    }
}

/// One that was free a moment ago.
fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
