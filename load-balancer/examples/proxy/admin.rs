//! The admin address: who is in the pool and how it does, and changes of it. Give it an address that only operators
//! reach; it asks nobody who they are.
//!
//! | request                               | does                                                          |
//! |---------------------------------------|---------------------------------------------------------------|
//! | `GET /backends`                       | JSON: address, weight, state, requests in flight, counts      |
//! | `POST /backends/add?addr=A[&weight=N]`| lets it join, changes its weight, or takes it back            |
//! | `POST /backends/drain?addr=A`         | sends nothing new there                                       |
//! | `POST /backends/remove?addr=A`        | the same, and forgets it                                      |
//! | `GET /metrics`                        | Prometheus                                                    |
//! | `GET /healthz`                        | 200 while requests can be served, else 503                    |

use std::convert::Infallible;
use std::fmt::Write;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tenfold_load_balancer::{BackendId, BackendState};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use crate::answer::Body;
use crate::metrics::{self, Metrics};
use crate::options::BackendOption;
use crate::roster::Roster;

/// Operators and scrapers at a time.
const MAX_CONNECTIONS: usize = 64;
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// What the admin address knows and changes.
pub(crate) struct Admin {
    pub(crate) roster: Roster,
    pub(crate) metrics: Vec<Arc<Metrics>>,
    pub(crate) stopping: watch::Receiver<bool>,
}

/// Answers on the admin address until it is dropped.
pub(crate) async fn serve(admin: Rc<Admin>, listener: TcpListener) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let admin = Rc::clone(&admin);
        tokio::task::spawn_local(async move {
            let service = service_fn(move |request| {
                let response = admin.answer(&request);
                async { Ok::<_, Infallible>(response) }
            });
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            drop(permit);
        });
    }
}

impl Admin {
    fn answer(&self, request: &Request<Incoming>) -> Response<Body> {
        let path = request.uri().path();
        let change = path.strip_prefix("/backends/");
        match (request.method(), path, change) {
            (&Method::GET, "/backends", _) => text(StatusCode::OK, "application/json", self.backends()),
            (&Method::GET, "/metrics", _) => text(
                StatusCode::OK,
                "text/plain; version=0.0.4",
                metrics::render(&self.metrics, self.roster.balancer()),
            ),
            (&Method::GET, "/healthz", _) => match self.is_serving() {
                true => text(StatusCode::OK, "text/plain", "ok\n".into()),
                false => text(StatusCode::SERVICE_UNAVAILABLE, "text/plain", "unavailable\n".into()),
            },
            (&Method::POST, _, Some(change)) => self.change(change, request.uri().query().unwrap_or_default()),
            (_, "/backends" | "/metrics" | "/healthz", _) | (_, _, Some("add" | "remove" | "drain")) => {
                text(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "wrong method\n".into())
            }
            _ => text(StatusCode::NOT_FOUND, "text/plain", "not found\n".into()),
        }
    }

    fn is_serving(&self) -> bool {
        let backends = self.roster.balancer().backends();
        !*self.stopping.borrow() && backends.iter().any(|backend| takes_requests(backend.state))
    }

    fn backends(&self) -> String {
        let mut json = String::from("[");
        for (index, backend) in self.roster.balancer().backends().iter().enumerate() {
            let traffic = self.roster.traffic(backend.id);
            let _ = write!(
                json,
                "{}{{\"address\":\"{}\",\"weight\":{},\"state\":\"{}\",\"in_flight\":{},\"requests\":{},\"failures\":{}}}",
                if index == 0 { "" } else { "," },
                backend.address,
                backend.weight,
                name(backend.state),
                backend.in_flight,
                traffic.attempts(),
                traffic.failures(),
            );
        }
        json.push_str("]\n");
        json
    }

    fn change(&self, change: &str, query: &str) -> Response<Body> {
        let parameter = |name: &str| {
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.filter(|(key, _)| *key == name).map(|(_, value)| percent_decoded(value)).next()
        };
        let weight = parameter("weight").unwrap_or_else(|| "1".into());
        let backend = parameter("addr").and_then(|address| format!("{address},{weight}").parse::<BackendOption>().ok());
        let Some(backend) = backend else {
            return text(
                StatusCode::BAD_REQUEST,
                "text/plain",
                "addr=IP:PORT or weight=N is missing or wrong\n".into(),
            );
        };
        let id = BackendId::of_address(backend.address);
        let was_found = match change {
            "add" => match self.roster.add(backend) {
                Ok(_) => true,
                Err(error) => return text(StatusCode::CONFLICT, "text/plain", format!("{error}\n")),
            },
            "remove" => self.roster.remove(id),
            "drain" => self.roster.drain(id),
            _ => return text(StatusCode::NOT_FOUND, "text/plain", "not found\n".into()),
        };
        match was_found {
            true => text(StatusCode::OK, "text/plain", "done\n".into()),
            false => text(StatusCode::NOT_FOUND, "text/plain", "there is no such backend\n".into()),
        }
    }
}

/// Whether new requests go to a backend in this state.
pub(crate) fn takes_requests(state: BackendState) -> bool {
    matches!(state, BackendState::Healthy | BackendState::Warming)
}

fn name(state: BackendState) -> &'static str {
    match state {
        BackendState::Healthy => "healthy",
        BackendState::Warming => "warming",
        BackendState::Ejected => "ejected",
        BackendState::Down => "down",
        BackendState::Draining => "draining",
        _ => "other",
    }
}

fn text(status: StatusCode, kind: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(Body::Whole(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// Text with `%3A` and its like read. What is not valid stays as it is, and is no address then.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = (*first == b'%').then(|| tail.get(..2)).flatten();
        let escaped = escaped.and_then(|digits| std::str::from_utf8(digits).ok());
        match escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
