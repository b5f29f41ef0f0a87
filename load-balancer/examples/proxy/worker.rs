//! One thread: its listener, its clients, its picker and its connections to backends. Threads share the pool of
//! backends and the number of clients, and nothing that is written for each request.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tenfold_load_balancer::{Balancer, Picker, RequestPolicy};
use tokio::net::TcpListener;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, watch};

use crate::hub::Hub;
use crate::metrics::Metrics;
use crate::options::{Mode, Options};
use crate::pool::Pool;
use crate::traffic::Traffic;
use crate::witness::witnessed;
use crate::{client, clock, tunnel};

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 4096;
/// How often old connections to backends are looked for.
const SWEEP: Duration = Duration::from_millis(200);

/// What the clients of one thread share.
pub(crate) struct Worker {
    pub(crate) options: Arc<Options>,
    pub(crate) balancer: Balancer<Traffic>,
    pub(crate) picker: RefCell<Picker<Traffic>>,
    pub(crate) policy: Arc<RequestPolicy>,
    pub(crate) pool: RefCell<Pool>,
    pub(crate) hub: Rc<RefCell<Hub>>,
    pub(crate) metrics: Arc<Metrics>,
    /// Wakes every client when draining begins.
    pub(crate) drain: Notify,
    draining: Cell<bool>,
    clients: Cell<usize>,
    gone: Notify,
}

impl Worker {
    /// Whether the proxy takes no more requests.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.get()
    }
}

/// A socket that listens, together with those of the other threads: the kernel shares connections out among them.
pub(crate) fn listen(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// All that a thread is given.
pub(crate) struct Seat {
    pub(crate) options: Arc<Options>,
    pub(crate) balancer: Balancer<Traffic>,
    pub(crate) policy: Arc<RequestPolicy>,
    pub(crate) metrics: Arc<Metrics>,
    /// For how many more clients there is room, in all threads.
    pub(crate) room: Arc<Semaphore>,
    pub(crate) listener: std::net::TcpListener,
    pub(crate) stopping: watch::Receiver<bool>,
    pub(crate) presence: Presence,
}

/// Says when it is dropped that a thread, by its number, has ended, in whatever way.
pub(crate) struct Presence {
    pub(crate) thread: usize,
    pub(crate) ended: mpsc::UnboundedSender<usize>,
}

impl Drop for Presence {
    fn drop(&mut self) {
        // Nobody listens once the process ends.
        let _ = self.ended.send(self.thread);
    }
}

/// Serves clients until it is to stop, and then until they are done or the drain time is over.
pub(crate) async fn run(seat: Seat) -> std::io::Result<()> {
    let Seat { options, balancer, policy, metrics, room, listener, mut stopping, presence: _presence } = seat;
    let listener = TcpListener::from_std(listener)?;
    let worker = Rc::new(Worker {
        picker: RefCell::new(balancer.picker()),
        balancer,
        pool: RefCell::new(Pool::new(options.limits.max_idle, options.limits.pool_timeout)),
        hub: Rc::default(),
        policy,
        metrics,
        drain: Notify::new(),
        draining: Cell::new(false),
        clients: Cell::new(0),
        gone: Notify::new(),
        options,
    });
    let sweeper = tokio::task::spawn_local(sweep(Rc::clone(&worker)));
    tokio::select! {
        () = accept(&worker, &listener, &room) => {}
        _ = stopping.wait_for(|stopping| *stopping) => {}
    }
    drop(listener);
    worker.draining.set(true);
    worker.drain.notify_waiters();
    let drained = async {
        while worker.clients.get() > 0 {
            worker.gone.notified().await;
        }
    };
    let _ = tokio::time::timeout(worker.options.limits.drain_timeout, drained).await;
    sweeper.abort();
    Ok(())
}

async fn accept(worker: &Rc<Worker>, listener: &TcpListener, room: &Arc<Semaphore>) {
    loop {
        // The client first, then the room for it: a thread that kept room for a client which may never come would keep it
        // from the clients of the others.
        match listener.accept().await {
            Ok((stream, address)) => {
                let Ok(permit) = Arc::clone(room).acquire_owned().await else { return };
                let _ = stream.set_nodelay(true);
                let guest = Guest { worker: Rc::clone(worker), _permit: permit };
                worker.clients.set(worker.clients.get() + 1);
                worker.metrics.connected();
                spawn(worker, async move {
                    let worker = Rc::clone(&guest.worker);
                    match worker.options.mode {
                        Mode::Http => client::serve(worker, stream, address).await,
                        Mode::Tcp => tunnel::serve_tcp(worker, stream, client::key(address)).await,
                    }
                });
            }
            // Out of descriptors, or the client left already: others may fare better in a moment.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// Begins a task for a client. One that panics ends alone, and is counted.
pub(crate) fn spawn(worker: &Worker, task: impl Future<Output = ()> + 'static) {
    let metrics = Arc::clone(&worker.metrics);
    tokio::task::spawn_local(witnessed(task, move || metrics.panicked()));
}

/// A client that is counted.
struct Guest {
    worker: Rc<Worker>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.worker.clients.set(self.worker.clients.get() - 1);
        self.worker.gone.notify_one();
    }
}

async fn sweep(worker: Rc<Worker>) {
    let mut tick = tokio::time::interval(SWEEP);
    loop {
        tick.tick().await;
        let mut members: Vec<_> = worker.balancer.backends().iter().map(|backend| backend.id).collect();
        members.sort_unstable();
        let mut pool = worker.pool.borrow_mut();
        let (now, is_member) = (clock::now(), |id| members.binary_search(&id).is_ok());
        pool.sweep(now, is_member);
        let mut hub = worker.hub.borrow_mut();
        hub.sweep(now, worker.options.limits.pool_timeout, is_member);
        worker.metrics.set_idle(pool.len() + hub.len());
    }
}
