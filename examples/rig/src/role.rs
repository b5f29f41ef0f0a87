//! What runs inside a child process: one role, one ready line, one way to stop.
//!
//! A rung is one binary. Its parent starts the same binary again for every tier; [`run`] looks whether it is such a
//! child and then runs the role that was asked for, else it runs the parent. The two talk by one JSON line on the
//! child's stdout, which says at which address the role serves, or why it does not.
//!
//! # No orphans
//! A child asks the kernel to be killed when its parent dies (`PR_SET_PDEATHSIG`), whatever the parent died of. Between
//! the fork and that request the parent may already be gone, so the child then compares its parent's id with the one it
//! was told, and leaves if they differ.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::{Pid, getppid};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::clock;
use crate::spawner::{ROLE_ARGUMENT, SPEC_VARIABLE};

/// How a role's function or a parent ends; any error is printed with its sources.
pub type RoleResult<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

type RoleFuture = Pin<Box<dyn Future<Output = Result<(), Failed>>>>;
type RoleFn = Box<dyn Fn(Started) -> RoleFuture + Send + Sync>;

/// After a stop was asked for, a role has so long to finish before its process ends.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// Between attempts to bind the port of a predecessor that was killed a moment ago.
const BIND_PAUSE: Duration = Duration::from_millis(25);

/// The roles of a binary, by name.
#[derive(Default)]
pub struct Roles {
    by_name: BTreeMap<&'static str, RoleFn>,
}

impl Roles {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the role `name`, whose function gets its configuration as `C` and serves until it is told to stop.
    ///
    /// A later role of the same name replaces the earlier one.
    #[must_use]
    pub fn add<C, F, Fut>(mut self, name: &'static str, serve: F) -> Self
    where
        C: DeserializeOwned + 'static,
        F: Fn(Role<C>) -> Fut + Send + Sync + Clone + 'static,
        Fut: Future<Output = RoleResult> + 'static,
    {
        let role: RoleFn = Box::new(move |started| {
            let serve = serve.clone();
            Box::pin(async move {
                let role = started.into_role::<C>()?;
                serve(role).await.map_err(|e| Failed::new(FailureKind::Role, chain(&*e)))
            })
        });
        self.by_name.insert(name, role);
        self
    }

    /// Takes over every role of `other`; on a clash of names, `other`'s wins.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        self.by_name.extend(other.by_name);
        self
    }

    /// The names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.by_name.keys().copied()
    }
}

impl fmt::Debug for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.by_name.keys()).finish()
    }
}

/// What a role's function is given.
#[derive(Debug)]
pub struct Role<C> {
    /// The node's own name, such as `web-2`.
    pub name: String,
    /// The role's name, such as `web`.
    pub role: String,
    /// The configuration the parent gave.
    pub config: C,
    addr: SocketAddr,
    listener: Option<TcpListener>,
    announced: BTreeMap<String, SocketAddr>,
    stop: Stop,
}

/// Misuse of [`Role::ready`].
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReadyError {
    /// The listener was handed out before.
    #[error("the role has said that it is ready before")]
    Twice,
    /// The parent no longer reads.
    #[error("the ready line could not be written")]
    Unheard(#[source] io::Error),
}

impl<C> Role<C> {
    /// The address of the node's listener.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Adds a second address to the ready line, such as that of a DNS socket; the parent finds it by `label`.
    pub fn announce(&mut self, label: impl Into<String>, addr: SocketAddr) {
        self.announced.insert(label.into(), addr);
    }

    /// Hands out the bound listener and tells the parent that the node serves. Call it when all set-up is done.
    ///
    /// # Errors
    /// A second call, or a parent that has gone.
    pub fn ready(&mut self) -> Result<TcpListener, ReadyError> {
        let listener = self.listener.take().ok_or(ReadyError::Twice)?;
        let line = Handshake::Ready { addr: self.addr, announced: std::mem::take(&mut self.announced) };
        line.print().map_err(ReadyError::Unheard)?;
        Ok(listener)
    }

    /// Resolves when the node is asked to stop; for `axum::serve(..).with_graceful_shutdown(role.stop().wait())`.
    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }
}

/// Tells that the node was asked to stop (SIGTERM).
#[derive(Clone, Debug)]
pub struct Stop {
    asked: watch::Receiver<bool>,
}

impl Stop {
    /// Returns when the node is asked to stop, at once if it was already.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn wait(mut self) {
        // The sender lives in the process's main task; if it is gone, so is the reason to go on.
        let _ = self.asked.wait_for(|asked| *asked).await;
    }

    /// Whether the node was asked to stop.
    pub fn is_asked(&self) -> bool {
        *self.asked.borrow()
    }
}

/// What the parent tells a child; travels in one environment variable.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) role: String,
    pub(crate) name: String,
    pub(crate) bind: SocketAddr,
    pub(crate) bind_attempts: u32,
    pub(crate) threads: usize,
    pub(crate) parent: i32,
    pub(crate) config: serde_json::Value,
}

/// The one line a child prints.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Handshake {
    Ready { addr: SocketAddr, announced: BTreeMap<String, SocketAddr> },
    Failed { kind: FailureKind, message: String },
}

/// At which step a child failed to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum FailureKind {
    /// The binary has no such role.
    UnknownRole,
    /// The configuration does not fit the role.
    Config,
    /// The address is in use or not to be had.
    Bind,
    /// The role's own function failed, before or after it was ready.
    Role,
}

impl Handshake {
    fn print(&self) -> io::Result<()> {
        let line = serde_json::to_string(self)?;
        let mut out = io::stdout().lock();
        writeln!(out, "{line}")?;
        out.flush()
    }
}

struct Failed {
    kind: FailureKind,
    message: String,
}

impl Failed {
    fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

struct Started {
    spec: Spec,
    listener: TcpListener,
    addr: SocketAddr,
    stop: Stop,
}

impl Started {
    fn into_role<C: DeserializeOwned>(self) -> Result<Role<C>, Failed> {
        let config =
            serde_json::from_value(self.spec.config).map_err(|e| Failed::new(FailureKind::Config, e.to_string()))?;
        Ok(Role {
            name: self.spec.name,
            role: self.spec.role,
            config,
            addr: self.addr,
            listener: Some(self.listener),
            announced: BTreeMap::new(),
            stop: self.stop,
        })
    }
}

/// The whole `main` of a binary with roles: runs one role if this process was started as a child, else `parent`.
///
/// The parent gets a runtime of two threads. When it is interrupted (Ctrl-C) or terminated, its future is dropped, and
/// with it every supervisor, child process and temporary folder in it; the exit code then is 130 or 143.
///
/// # Examples
/// ```no_run
/// use std::process::ExitCode;
/// use tenfold_rig::{NodeSpec, Role, RoleResult, Roles, Supervisor, run};
///
/// async fn echo(mut role: Role<String>) -> RoleResult {
///     let listener = role.ready()?;
///     role.stop().wait().await;
///     drop(listener);
///     Ok(())
/// }
///
/// fn main() -> ExitCode {
///     run(Roles::new().add("echo", echo), || async {
///         let tiers = Supervisor::new()?;
///         let node = tiers.spawn(NodeSpec::new("echo", "echo-1").config(&"hello")?).await?;
///         println!("{} serves at {}", node.name(), node.addr());
///         Ok(ExitCode::SUCCESS)
///     })
/// }
/// ```
pub fn run<P, Fut>(roles: Roles, parent: P) -> ExitCode
where
    P: FnOnce() -> Fut,
    Fut: Future<Output = RoleResult<ExitCode>>,
{
    match child_spec() {
        None => run_parent(parent),
        Some(Ok(spec)) => run_child(&roles, spec),
        Some(Err(message)) => refuse(&Failed::new(FailureKind::Config, message)),
    }
}

/// Whether this process was started as a child, and with which order.
fn child_spec() -> Option<Result<Spec, String>> {
    if std::env::args_os().nth(1)? != ROLE_ARGUMENT {
        return None;
    }
    let json = std::env::var(SPEC_VARIABLE).map_err(|e| format!("{SPEC_VARIABLE}: {e}"));
    Some(json.and_then(|json| serde_json::from_str(&json).map_err(|e| format!("{SPEC_VARIABLE}: {e}"))))
}

fn run_parent<P, Fut>(parent: P) -> ExitCode
where
    P: FnOnce() -> Fut,
    Fut: Future<Output = RoleResult<ExitCode>>,
{
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return report(&e),
    };
    let code = runtime.block_on(async {
        let (mut interrupt, mut terminate) =
            match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
                (Ok(interrupt), Ok(terminate)) => (interrupt, terminate),
                (Err(e), _) | (_, Err(e)) => return report(&e),
            };
        tokio::select! {
            outcome = parent() => outcome.unwrap_or_else(|e| report(&*e)),
            _ = interrupt.recv() => ExitCode::from(130),
            _ = terminate.recv() => ExitCode::from(143),
        }
    });
    // A task that blocks must not hold up the end of the process.
    runtime.shutdown_timeout(Duration::from_millis(200));
    code
}

fn run_child(roles: &Roles, spec: Spec) -> ExitCode {
    if let Err(e) = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL) {
        return report(&e);
    }
    if getppid() != Pid::from_raw(spec.parent) {
        return ExitCode::FAILURE;
    }
    // Only a label for `ps` and `top`; a name the kernel refuses changes nothing.
    if let Ok(name) = std::ffi::CString::new(spec.name.as_str()) {
        let _ = nix::sys::prctl::set_name(&name);
    }
    let Some(serve) = roles.by_name.get(spec.role.as_str()) else {
        let known: Vec<_> = roles.names().collect();
        let message = format!("no role `{}` here; the roles are: {}", spec.role, known.join(", "));
        return refuse(&Failed::new(FailureKind::UnknownRole, message));
    };
    let runtime = match spec.threads {
        0 | 1 => tokio::runtime::Builder::new_current_thread().enable_all().build(),
        n => tokio::runtime::Builder::new_multi_thread().worker_threads(n).enable_all().build(),
    };
    let outcome = match runtime {
        Ok(runtime) => {
            let local = tokio::task::LocalSet::new();
            let outcome = runtime.block_on(local.run_until(serve_until_stopped(serve, spec)));
            runtime.shutdown_timeout(Duration::from_millis(200));
            outcome
        }
        Err(e) => Err(Failed::new(FailureKind::Role, e.to_string())),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => refuse(&failed),
    }
}

async fn serve_until_stopped(serve: &RoleFn, spec: Spec) -> Result<(), Failed> {
    let role_failed = |e: io::Error| Failed::new(FailureKind::Role, e.to_string());
    let mut terminate = signal(SignalKind::terminate()).map_err(role_failed)?;
    let listener = bind(spec.bind, spec.bind_attempts).await.map_err(|e| {
        let message = format!("cannot listen on {}: {e}", spec.bind);
        Failed::new(FailureKind::Bind, message)
    })?;
    let addr = listener.local_addr().map_err(role_failed)?;
    let (ask, asked) = watch::channel(false);
    let serving = serve(Started { spec, listener, addr, stop: Stop { asked } });
    tokio::pin!(serving);
    tokio::select! {
        outcome = &mut serving => return outcome,
        _ = terminate.recv() => {}
    }
    // The role may have dropped its Stop; then there is nobody to tell and the grace period ends it.
    let _ = ask.send(true);
    tokio::time::timeout(STOP_GRACE, serving).await.unwrap_or(Ok(()))
}

async fn bind(addr: SocketAddr, attempts: u32) -> io::Result<TcpListener> {
    let mut left = attempts.max(1);
    loop {
        left -= 1;
        match TcpListener::bind(addr).await {
            Err(e) if e.kind() == io::ErrorKind::AddrInUse && left > 0 => clock::sleep(BIND_PAUSE).await,
            outcome => return outcome,
        }
    }
}

fn refuse(failed: &Failed) -> ExitCode {
    eprintln!("error: {}", failed.message);
    // Nobody may be reading any more; the exit code says it too.
    let _ = Handshake::Failed { kind: failed.kind, message: failed.message.clone() }.print();
    ExitCode::FAILURE
}

fn report(error: &(dyn Error + 'static)) -> ExitCode {
    eprintln!("error: {}", chain(error));
    ExitCode::FAILURE
}

/// An error and its sources in one line.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        line.push_str(": ");
        line.push_str(&inner.to_string());
        source = inner.source();
    }
    line
}
