//! A reverse proxy over the balancer: HTTP/1.1, HTTP/2 and TCP.
//!
//! ```text
//! cargo run --release -p tenfold-load-balancer --features proxy --example proxy -- \
//!     --listen 127.0.0.1:8080 --admin 127.0.0.1:8081 --backend 127.0.0.1:9001 --backend 127.0.0.1:9002,3
//! ```
//!
//! One thread for each core, each with a runtime, a listening socket, a picker and connections to backends of its own
//! ([`worker`]); a request stays on the thread it came to. This thread starts the others and then is the control plane:
//! signals and the admin address.
//!
//! ```text
//! client ──> client.rs ──> forward.rs ──> exchange.rs ──> attempt.rs ──> link/ ──> backend
//!                 └──────> tunnel.rs (TCP mode, and after a 101) ──────────────────> backend
//! operator ──> admin.rs ──> roster.rs ──> Balancer <── probe.rs
//! ```
//!
//! | signal           | does                                                                                    |
//! |------------------|-----------------------------------------------------------------------------------------|
//! | SIGHUP           | reads `--config` again; a file with a mistake, or without a backend, changes nothing    |
//! | SIGTERM, SIGINT  | takes no more clients, lets requests in flight end (`--drain-timeout`), and stops       |

mod admin;
mod alarm;
mod answer;
mod attempt;
mod client;
mod client_io;
mod clock;
mod exchange;
mod forward;
mod hub;
mod link;
mod metrics;
mod options;
mod pool;
mod probe;
mod roster;
mod traffic;
mod tries;
mod tunnel;
mod watch;
mod witness;
mod worker;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;

use admin::Admin;
use metrics::Metrics;
use options::Options;
use roster::Roster;
use tenfold_load_balancer::{Balancer, RequestPolicy, drive_probes};
use tokio::net::TcpListener;
use tokio::runtime::{LocalOptions, LocalRuntime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc, watch as flag};
use worker::{Presence, Seat};

type Thread = JoinHandle<std::io::Result<()>>;
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    match Options::parse(lexopt::Parser::from_env()) {
        Ok(Some(options)) => match run(options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("proxy: {error}");
                ExitCode::FAILURE
            }
        },
        Ok(None) => {
            print!("{}", options::USAGE);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("proxy: {error}; see --help");
            ExitCode::from(2)
        }
    }
}

fn run(options: Options) -> Result<()> {
    runtime()?.block_on(control(Arc::new(options)))
}

fn runtime() -> std::io::Result<LocalRuntime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default())
}

/// Starts everything, then waits for signals until every thread is done.
async fn control(options: Arc<Options>) -> Result<()> {
    // Before anything says that it is there: a signal must not find nobody at home.
    let mut hangup = signal(SignalKind::hangup())?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let roster = Roster::new(Balancer::builder().config(options.balancer_config()).build()?);
    roster.load(options.read_backends()?)?;
    let (stop, stopping) = flag::channel(false);
    let (ended, mut ends) = mpsc::unbounded_channel();
    let (threads, metrics) = start(&options, &roster, &stopping, &ended)?;
    let mut threads: Vec<_> = threads.into_iter().map(Some).collect();
    if let Some(address) = options.admin {
        let listener = TcpListener::bind(address).await.map_err(|error| cannot_listen(address, &error))?;
        eprintln!("proxy: admin on {}", listener.local_addr()?);
        tokio::task::spawn_local(admin::serve(
            Rc::new(Admin { roster: roster.clone(), metrics, stopping: stopping.clone() }),
            listener,
        ));
    }
    let prober = options.prober();
    tokio::task::spawn_local(drive_probes(roster.balancer().clone(), move |probe| prober.clone().send(probe)));
    let stop_all = || _ = stop.send_replace(true);
    while threads.iter().any(Option::is_some) {
        tokio::select! {
            _ = hangup.recv() => reload(&roster, &options),
            _ = terminate.recv() => stop_all(),
            _ = interrupt.recv() => stop_all(),
            Some(thread) = ends.recv() => {
                if let Some(thread) = threads[thread].take() {
                    thread.join().map_err(|_| "a thread panicked")??;
                }
                // One that ends before it was to leaves its clients to nobody: whoever watches the process does better.
                if !*stopping.borrow() {
                    return Err("a thread has ended".into());
                }
            }
        }
    }
    Ok(())
}

/// Starts the threads that serve clients.
fn start(
    options: &Arc<Options>,
    roster: &Roster,
    stopping: &flag::Receiver<bool>,
    ended: &mpsc::UnboundedSender<usize>,
) -> Result<(Vec<Thread>, Vec<Arc<Metrics>>)> {
    let policy = Arc::new(RequestPolicy::new(options.request_config(), clock::now())?);
    let room = Arc::new(Semaphore::new(options.limits.max_connections));
    let metrics: Vec<_> = (0..options.threads).map(|_| Arc::default()).collect();
    // All sockets before any thread: an address that is taken is found out before a client is served.
    let mut listen = options.listen;
    let mut seats = vec![];
    for (thread, metrics) in metrics.iter().enumerate() {
        let listener = worker::listen(listen).map_err(|error| cannot_listen(listen, &error))?;
        listen = listener.local_addr()?;
        let (options, balancer, policy) = (Arc::clone(options), roster.balancer().clone(), Arc::clone(&policy));
        let (metrics, room, stopping) = (Arc::clone(metrics), Arc::clone(&room), stopping.clone());
        let presence = Presence { thread, ended: ended.clone() };
        seats.push(Seat { options, balancer, policy, metrics, room, listener, stopping, presence });
    }
    eprintln!("proxy: listening on {listen}");
    let work = |seat: Seat| runtime()?.block_on(worker::run(seat));
    let start = |seat| std::thread::Builder::new().name("proxy".into()).spawn(move || work(seat));
    Ok((seats.into_iter().map(start).collect::<std::io::Result<_>>()?, metrics))
}

fn cannot_listen(address: SocketAddr, error: &std::io::Error) -> String {
    format!("cannot listen on {address}: {error}")
}

fn reload(roster: &Roster, options: &Options) {
    match options.read_backends_again().and_then(|backends| roster.load(backends)) {
        Ok(count) => eprintln!("proxy: {count} backends"),
        Err(error) => eprintln!("proxy: nothing changed: {error}"),
    }
}
