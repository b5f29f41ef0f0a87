//! The `main` of a binary with roles: either its parent or one role.

use std::error::Error;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::{Pid, getppid};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::handshake::{Failed, FailureKind, Handshake, Spec};
use super::{RoleFn, RoleResult, Roles, Started, Stop, chain};
use crate::clock;
use crate::spawner::{ROLE_ARGUMENT, SPEC_VARIABLE};

/// After a stop was asked for, a role has so long to finish before its process ends.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// Between attempts to bind the port of a predecessor that was killed a moment ago.
const BIND_PAUSE: Duration = Duration::from_millis(25);

/// The whole `main` of a binary with roles: runs one role if this process was started as a child, else `parent`.
///
/// The parent gets a runtime of two threads. When it is interrupted (Ctrl-C), terminated or loses its terminal, its
/// future is dropped, and with it every supervisor, child process and temporary folder in it; the exit code then is 130,
/// 143 or 129.
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
        let [mut interrupt, mut terminate, mut hang_up] =
            match [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal) {
                [Ok(interrupt), Ok(terminate), Ok(hang_up)] => [interrupt, terminate, hang_up],
                [Err(e), ..] | [_, Err(e), _] | [.., Err(e)] => return report(&e),
            };
        tokio::select! {
            outcome = parent() => outcome.unwrap_or_else(|e| report(&*e)),
            // As shells count them: 128 and the signal's number.
            _ = interrupt.recv() => ExitCode::from(130),
            _ = terminate.recv() => ExitCode::from(143),
            _ = hang_up.recv() => ExitCode::from(129),
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
