//! HTTP/2 connections to backends, shared by the requests of a thread.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tenfold_load_balancer::BackendId;
use tokio::sync::watch;

use crate::link::{ConnectError, Line, Stream, Upload};

/// How a connection came about that others wait for, too.
type Joined = Option<Result<(), ConnectError>>;
/// Ready when there is a connection, or is not.
pub(crate) type Joining = Pin<Box<dyn Future<Output = Result<(), ConnectError>>>>;

/// The connections of one thread. A backend has one more than one only if the streams of the first are all taken.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    lines: HashMap<BackendId, Vec<Line>>,
    /// Those that are being made, one at a time to a backend.
    joining: HashMap<BackendId, watch::Receiver<Joined>>,
}

impl Hub {
    /// Begins a request, if there is a connection with room for it.
    pub(crate) fn open(&mut self, id: BackendId, upload: &mut Upload) -> Option<Stream> {
        let lines = self.lines.get(&id)?;
        lines.iter().filter(|line| line.has_room()).find_map(|line| line.open(upload))
    }

    /// Makes one more connection, or waits for the one that is being made.
    pub(crate) fn join(
        this: &Rc<RefCell<Self>>,
        id: BackendId,
        address: SocketAddr,
        timeout: Duration,
        max_header_bytes: usize,
    ) -> Joining {
        let mut hub = this.borrow_mut();
        let mut joined = match hub.joining.get(&id) {
            Some(joined) => joined.clone(),
            None => {
                let (tell, joined) = watch::channel(None);
                hub.joining.insert(id, joined.clone());
                let hub = Rc::clone(this);
                // A task, so that the connection comes about even if the request that asked for it is gone by then.
                tokio::task::spawn_local(async move {
                    let made = Line::connect(address, timeout, max_header_bytes).await;
                    let made = made.map(|(line, run)| {
                        hub.borrow_mut().lines.entry(id).or_default().push(line);
                        tokio::task::spawn_local(run);
                    });
                    hub.borrow_mut().joining.remove(&id);
                    tell.send_replace(Some(made));
                });
                joined
            }
        };
        Box::pin(async move {
            let joined = joined.wait_for(Option::is_some).await;
            joined.map_or(None, |joined| *joined).unwrap_or(Err(ConnectError::Local))
        })
    }

    /// Forgets what is closed or too old, and all to backends that are gone.
    pub(crate) fn sweep(&mut self, now: Instant, timeout: Duration, is_member: impl Fn(BackendId) -> bool) {
        self.lines.retain(|id, lines| {
            lines.retain(|line| !line.is_old(now, timeout));
            !lines.is_empty() && is_member(*id)
        });
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.lines.values().map(Vec::len).sum()
    }
}
