//! The three backends of a run, and what is done to them.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::arrivals;
use super::backend::{ARRIVALS_PATH, Fault};
use super::http::{Progress, answer};
use super::process::Process;
use crate::clock;
use crate::rng::Rng;

/// The first argument that makes this binary a backend: `backend ADDRESS NUMBER`.
pub const BACKEND: &str = "backend";

/// How many backends there are.
pub const COUNT: usize = 3;

/// How long a process may take until it serves.
pub const START_LIMIT: Duration = Duration::from_secs(5);

/// How long an answer to a question beside the load may take.
const CONTROL_LIMIT: Duration = Duration::from_secs(2);

/// Ports that the kernel does not hand out to outgoing connections by itself (those begin at 32768), so that the port of a
/// killed backend stays free, and nobody who connects to it meets himself.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// Backends on addresses of their own.
#[derive(Debug)]
pub struct Fleet {
    addresses: [SocketAddr; COUNT],
    processes: [Option<Process>; COUNT],
}

impl Fleet {
    /// Starts all and waits until they serve.
    ///
    /// # Errors
    ///
    /// What starting or asking them gave.
    pub fn start(ports: &mut Ports) -> io::Result<Self> {
        let addresses = [ports.free()?, ports.free()?, ports.free()?];
        let mut fleet = Self { addresses, processes: [None, None, None] };
        (0..COUNT).try_for_each(|index| fleet.restart(index))?;
        Ok(fleet)
    }

    /// Where they serve.
    #[must_use]
    pub fn addresses(&self) -> [SocketAddr; COUNT] {
        self.addresses
    }

    /// The process groups of those that run.
    pub fn groups(&self) -> impl Iterator<Item = Pid> + '_ {
        self.processes.iter().flatten().map(Process::pid)
    }

    /// Kills one at once, and whatever it was about to answer.
    ///
    /// # Errors
    ///
    /// What the kernel gave.
    pub fn kill(&mut self, index: usize) -> io::Result<()> {
        self.processes[index].take().map_or(Ok(()), Process::kill)
    }

    /// Starts one that does not run, and waits until it serves.
    ///
    /// # Errors
    ///
    /// What starting or asking it gave.
    pub fn restart(&mut self, index: usize) -> io::Result<()> {
        let address = self.addresses[index];
        let arguments = [BACKEND.to_owned(), address.to_string(), index.to_string()];
        self.processes[index] = Some(Process::start(std::env::current_exe()?.as_os_str(), &arguments, true)?);
        await_answer(address, "/health")
    }

    /// Sends a signal to one.
    ///
    /// # Errors
    ///
    /// What the kernel gave.
    pub fn signal(&mut self, index: usize, signal: Signal) -> io::Result<()> {
        self.processes[index].as_mut().map_or(Ok(()), |process| process.signal(signal))
    }

    /// Gives one a fault, or takes it away.
    ///
    /// # Errors
    ///
    /// What asking it gave.
    pub fn set_fault(&self, index: usize, fault: Fault) -> io::Result<()> {
        ask(self.addresses[index], "GET", &fault.path()).map(drop)
    }

    /// When requests came in at one since it was started, by [`clock::uptime`].
    ///
    /// # Errors
    ///
    /// What asking it gave, or that it answered nonsense.
    pub fn arrivals(&self, index: usize) -> io::Result<Vec<Duration>> {
        let body = ask(self.addresses[index], "GET", ARRIVALS_PATH)?;
        arrivals::parse(&body).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

/// Hands out ports, each once.
#[derive(Debug)]
pub struct Ports {
    rng: Rng,
}

impl Ports {
    /// Ports in an order that differs from time to time.
    #[must_use]
    pub fn new() -> Self {
        Self { rng: Rng::new(u64::from(std::process::id()) << 32 | u64::from(clock::uptime().subsec_nanos())) }
    }

    /// An address on loopback that nobody listens at.
    ///
    /// # Errors
    ///
    /// That none was found.
    pub fn free(&mut self) -> io::Result<SocketAddr> {
        let mut last = io::ErrorKind::AddrInUse.into();
        for _ in 0..100 {
            let port = PORTS.start + self.rng.below(u64::from(PORTS.end - PORTS.start)) as u16;
            match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
                Ok(listener) => return listener.local_addr(),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

impl Default for Ports {
    fn default() -> Self {
        Self::new()
    }
}

/// Asks until the answer is 200.
///
/// # Errors
///
/// What the last try gave after [`START_LIMIT`].
pub fn await_answer(address: SocketAddr, path: &str) -> io::Result<()> {
    let begin = clock::uptime();
    loop {
        match ask(address, "GET", path) {
            Ok(_) => return Ok(()),
            Err(error) if clock::uptime() - begin > START_LIMIT => return Err(error),
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Sends one request without a body on a connection of its own, and gives the body of the answer.
///
/// # Errors
///
/// What the socket gave, or that the answer was not 200.
pub fn ask(address: SocketAddr, method: &str, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, CONTROL_LIMIT)?;
    stream.set_read_timeout(Some(CONTROL_LIMIT))?;
    let head = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let garbage = || io::Error::from(io::ErrorKind::InvalidData);
    let Progress::Whole(found) = answer(&bytes, true).map_err(|_| garbage())? else { return Err(garbage()) };
    let text = String::from_utf8(bytes).map_err(|_| garbage())?;
    let (_, body) = text.split_once("\r\n\r\n").ok_or_else(garbage)?;
    match found.status {
        200..300 => Ok(body.to_owned()),
        status => Err(io::Error::other(format!("{method} {path} was answered with {status}: {body}"))),
    }
}

/// Whether a program is on the path, or where Debian keeps those for administrators; where.
#[must_use]
pub fn program(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([std::path::PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join(OsStr::new(name))).find(|file| file.is_file())
}
