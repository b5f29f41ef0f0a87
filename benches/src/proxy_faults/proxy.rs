//! The proxies under test: one name for each with each of its settings, and a running one.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::fleet::{self, Ports};
use super::process::{Folder, Process};
use super::{haproxy, nginx, tenfold};
use crate::clock;

/// A drain that does not come to an end is not waited for any longer.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);

/// What a proxy that tells nothing gets for a drain: its longest time-out.
const DRAIN_PAUSE: Duration = Duration::from_millis(500);

/// What a proxy says of one backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// Whether it is sent new requests.
    pub is_in_rotation: bool,
    /// Requests sent to it and not answered.
    pub in_flight: u64,
}

/// How a running proxy is asked and told.
pub trait Control: fmt::Debug + Send {
    /// What it says of its backends, in their order; `None` if it says nothing.
    ///
    /// # Errors
    ///
    /// What asking gave.
    fn states(&self) -> io::Result<Option<Vec<State>>>;

    /// Asks for no new requests to a backend.
    ///
    /// # Errors
    ///
    /// What telling it gave.
    fn drain(&mut self, index: usize) -> io::Result<()>;

    /// Asks for requests to a backend again.
    ///
    /// # Errors
    ///
    /// What telling it gave.
    fn admit(&mut self, index: usize) -> io::Result<()>;

    /// Whether a change comes into force by SIGHUP.
    fn reloads(&self) -> bool {
        false
    }
}

/// Whose code it is, with its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// No proxy: the load goes to one backend. The floor of what the generator measures.
    Direct,
    /// haproxy.
    Haproxy(haproxy::Settings),
    /// nginx.
    Nginx(nginx::Settings),
    /// Ours, with a policy or its default one.
    Tenfold(Option<&'static str>),
}

/// A proxy with settings of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its name, which begins with the family's.
    pub name: &'static str,
    /// What it is.
    pub engine: Engine,
}

const fn haproxy(name: &'static str, balance: &'static str, retries_500: bool) -> Candidate {
    Candidate { name, engine: Engine::Haproxy(haproxy::Settings { balance, retries_500 }) }
}

const fn nginx(name: &'static str, balance: &'static str, retries_500: bool) -> Candidate {
    Candidate { name, engine: Engine::Nginx(nginx::Settings { balance, retries_500 }) }
}

/// All, in the order in which they take turns.
pub const CANDIDATES: &[Candidate] = &[
    Candidate { name: "direct", engine: Engine::Direct },
    Candidate { name: "tenfold", engine: Engine::Tenfold(None) },
    Candidate { name: "tenfold-rr", engine: Engine::Tenfold(Some("round-robin")) },
    haproxy("haproxy-rr", "roundrobin", false),
    haproxy("haproxy-leastconn", "leastconn", false),
    haproxy("haproxy-leastconn-500", "leastconn", true),
    nginx("nginx-rr", "", false),
    nginx("nginx-leastconn", "least_conn;", false),
    nginx("nginx-leastconn-500", "least_conn;", true),
];

/// A name that stands for no candidate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no proxy is called `{name}`; --list prints the names, of which the first word chooses the family")]
pub struct UnknownProxy {
    name: String,
}

/// The candidates of these names, or of families of these names; all, for no name.
///
/// # Errors
///
/// [`UnknownProxy`] if a name stands for none.
pub fn select(names: &[String]) -> Result<Vec<Candidate>, UnknownProxy> {
    let is_called =
        |candidate: &Candidate, name: &str| candidate.name == name || candidate.name.split('-').next() == Some(name);
    if let Some(name) = names.iter().find(|name| !CANDIDATES.iter().any(|candidate| is_called(candidate, name))) {
        return Err(UnknownProxy { name: name.clone() });
    }
    let is_chosen = |candidate: &&Candidate| names.is_empty() || names.iter().any(|name| is_called(candidate, name));
    Ok(CANDIDATES.iter().filter(is_chosen).copied().collect())
}

/// The programs that are here.
#[derive(Clone, Debug, Default)]
pub struct Programs {
    /// haproxy, on the path or where Debian installs it.
    pub haproxy: Option<PathBuf>,
    /// nginx, likewise.
    pub nginx: Option<PathBuf>,
    /// Ours, freshly built.
    pub tenfold: Option<PathBuf>,
}

impl Programs {
    /// Where the candidate's program is; an empty path for the one that needs none.
    #[must_use]
    pub fn of(&self, candidate: &Candidate) -> Option<&Path> {
        match candidate.engine {
            Engine::Direct => Some(Path::new("")),
            Engine::Haproxy(_) => self.haproxy.as_deref(),
            Engine::Nginx(_) => self.nginx.as_deref(),
            Engine::Tenfold(_) => self.tenfold.as_deref(),
        }
    }
}

/// A proxy that runs. Dropping it ends it.
#[derive(Debug)]
pub struct Proxy {
    process: Process,
    control: Box<dyn Control>,
    address: SocketAddr,
    _folder: Folder,
}

impl Proxy {
    /// Starts a candidate and waits until it answers; `None` for the one without a proxy.
    ///
    /// # Errors
    ///
    /// What writing its configuration, starting or asking it gave.
    pub fn start(
        candidate: &Candidate,
        program: &Path,
        backends: &[SocketAddr],
        ports: &mut Ports,
    ) -> io::Result<Option<Self>> {
        let folder = Folder::new("proxy-faults")?;
        let address = ports.free()?;
        let (arguments, control): (Vec<String>, Box<dyn Control>) = match candidate.engine {
            Engine::Direct => return Ok(None),
            Engine::Haproxy(settings) => {
                let file = folder.path().join("haproxy.cfg");
                std::fs::write(&file, haproxy::config(settings, address, backends, folder.path()))?;
                let arguments = vec!["-db".to_owned(), "-f".to_owned(), file.display().to_string()];
                (arguments, Box::new(haproxy::Runtime::new(folder.path())))
            }
            Engine::Nginx(settings) => {
                let reload = nginx::Reload::new(settings, address, backends, folder.path())?;
                let log = folder.path().join("error.log");
                let of = |option: &str, path: &Path| [option.to_owned(), path.display().to_string()];
                let arguments = [of("-e", &log), of("-p", folder.path()), of("-c", &reload.path())].concat();
                (arguments, Box::new(reload))
            }
            Engine::Tenfold(policy) => {
                let admin = ports.free()?;
                let arguments = tenfold::arguments(policy, address, admin, backends);
                (arguments, Box::new(tenfold::Admin::new(admin, backends)))
            }
        };
        let process = Process::start(program.as_os_str(), &arguments, is_loud())?;
        let proxy = Self { process, control, address, _folder: folder };
        fleet::await_answer(address, "/item")?;
        proxy.await_backends()?;
        Ok(Some(proxy))
    }

    /// Where it takes requests.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The group that its processes are in.
    #[must_use]
    pub fn group(&self) -> Pid {
        self.process.pid()
    }

    /// What it says of its backends.
    ///
    /// # Errors
    ///
    /// What asking gave.
    pub fn states(&self) -> io::Result<Option<Vec<State>>> {
        self.control.states()
    }

    /// Takes a backend out of rotation and waits until its requests are answered.
    ///
    /// # Errors
    ///
    /// What telling or asking it gave.
    pub fn drain(&mut self, index: usize) -> io::Result<()> {
        self.control.drain(index)?;
        self.reload()?;
        let begin = clock::uptime();
        loop {
            let Some(states) = self.states()? else {
                thread::sleep(DRAIN_PAUSE);
                return Ok(());
            };
            let is_drained = states.get(index).is_none_or(|state| !state.is_in_rotation && state.in_flight == 0);
            if is_drained || clock::uptime() - begin > DRAIN_LIMIT {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Puts a backend back into rotation.
    ///
    /// # Errors
    ///
    /// What telling it gave.
    pub fn admit(&mut self, index: usize) -> io::Result<()> {
        self.control.admit(index)?;
        self.reload()
    }

    fn reload(&mut self) -> io::Result<()> {
        if self.control.reloads() { self.process.signal(Signal::SIGHUP) } else { Ok(()) }
    }

    /// Waits until all backends are in rotation, as far as the proxy tells. It may begin to tell after it has begun to serve.
    fn await_backends(&self) -> io::Result<()> {
        let begin = clock::uptime();
        loop {
            let states = self.states();
            match &states {
                Ok(None) => return Ok(()),
                Ok(Some(states)) if states.iter().all(|state| state.is_in_rotation) => return Ok(()),
                _ if clock::uptime() - begin < fleet::START_LIMIT => thread::sleep(Duration::from_millis(20)),
                Ok(_) => {
                    return Err(io::Error::other(format!("the proxy has not all backends in rotation: {states:?}")));
                }
                Err(_) => return states.map(drop),
            }
        }
    }
}

/// Proxies complain of every backend that is broken on purpose; whoever wants to read that sets the variable.
fn is_loud() -> bool {
    std::env::var_os("TENFOLD_PROXY_STDERR").is_some_and(|value| value != OsStr::new(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(chosen: &[&str]) -> Vec<&'static str> {
        let chosen: Vec<String> = chosen.iter().map(|&name| name.to_owned()).collect();
        select(&chosen).unwrap().iter().map(|candidate| candidate.name).collect()
    }

    #[test]
    fn a_family_or_one_of_it() {
        assert_eq!(names(&["nginx"]), ["nginx-rr", "nginx-leastconn", "nginx-leastconn-500"]);
        assert_eq!(names(&["nginx-rr", "direct"]), ["direct", "nginx-rr"]);
        assert_eq!(names(&[]).len(), CANDIDATES.len());
        assert_eq!(
            select(&["squid".to_owned()]).unwrap_err().to_string().split(';').next(),
            Some("no proxy is called `squid`")
        );
    }

    #[test]
    fn names_differ() {
        let all = names(&[]);
        assert!(all.iter().enumerate().all(|(index, name)| !all[..index].contains(name)));
    }
}
