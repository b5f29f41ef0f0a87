//! One request: looked at, sent on, answered.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Version, header};
use http_body::Body as _;
use hyper::body::Incoming;
use tenfold_load_balancer::{Key, Permit, Priority};

use crate::alarm::Alarm;
use crate::answer::{self, Body, Download};
use crate::attempt::Arrival;
use crate::clock;
use crate::exchange::Errand;
use crate::link::{self, Additions, BodyFraming, Head, Upload};
use crate::tunnel::Tunnel;
use crate::watch::Watch;
use crate::worker::Worker;

/// What the requests of one client connection share.
pub(crate) struct Client {
    pub(crate) worker: Rc<Worker>,
    pub(crate) watch: Rc<Watch>,
    pub(crate) additions: Additions,
    /// What the hash policies place by: the client's address.
    pub(crate) key: Key,
    /// Left by one request for the next, where one follows the other (HTTP/1.1).
    pub(crate) spare: Cell<Spare>,
    /// Where the connection leads after a 101.
    pub(crate) tunnel: RefCell<Option<Tunnel>>,
}

/// What a request needs and the next can use again.
#[derive(Default)]
pub(crate) struct Spare {
    head: Vec<u8>,
    alarm: Alarm,
}

/// The client has a request as long as this lives.
pub(crate) struct Active(Rc<Watch>);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.end(clock::now());
    }
}

/// What is to be remembered of a request until its answer comes.
struct Asked {
    /// It asks for another protocol.
    upgrade: bool,
    active: Active,
}

/// Answers a request.
///
/// # Cancel safety
/// Dropping it gives the request up: its connection to a backend is closed, its pick counts as cancelled.
pub(crate) async fn forward(client: Rc<Client>, request: Request<Incoming>) -> Response<Body> {
    #[cfg(debug_assertions)]
    crate::witness::panic_if_asked(request.uri().path());
    let started = client.watch.begin();
    let active = Active(Rc::clone(&client.watch));
    let (parts, body) = request.into_parts();
    let mut spare = client.spare.take();
    let prepared = prepare(&client, &parts, body, std::mem::take(&mut spare.head), started);
    let Parts { method, version, mut headers, .. } = parts;
    let limit = client.worker.policy.limit();
    let room = limit.map(|limit| Permit::of(Arc::clone(limit), Priority::Default)).transpose();
    let answered = match (prepared, room) {
        (Ok(_), Err(overloaded)) => {
            client.worker.metrics.shed();
            Ok(answer::overloaded(overloaded))
        }
        (Ok((upload, upgrade)), Ok(room)) => {
            // Its fields are written; the answer's take their place.
            headers.clear();
            let mut errand = Errand::new(&client.worker, &method, client.key, upload, headers, room, started);
            let arrival = poll_fn(|cx| errand.poll(cx, &mut spare.alarm)).await;
            arrival.and_then(|arrival| answer(&client, arrival, Asked { upgrade, active }, &mut spare))
        }
        (Err(status), _) => Err(status),
    };
    if version < Version::HTTP_2 {
        client.spare.set(spare);
    }
    let answer = answered.unwrap_or_else(answer::own);
    client.worker.metrics.answered(answer.status(), clock::now().saturating_duration_since(started));
    answer
}

/// Looks at the request and writes its head; an error is the status that refuses it.
fn prepare(
    client: &Client,
    parts: &Parts,
    body: Incoming,
    mut head: Vec<u8>,
    now: Instant,
) -> Result<(Upload, bool), StatusCode> {
    if parts.method == Method::CONNECT {
        return Err(StatusCode::METHOD_NOT_ALLOWED);
    }
    let limits = &client.worker.options.limits;
    let framing = match body.size_hint().exact() {
        _ if body.is_end_stream() => BodyFraming::None,
        Some(length) => BodyFraming::Length(length),
        None => BodyFraming::Chunked,
    };
    if matches!(framing, BodyFraming::Length(length) if length > limits.max_body_bytes) {
        return Err(StatusCode::PAYLOAD_TOO_LARGE);
    }
    if client.worker.options.backend_http2 {
        let request = link::request(parts, framing, &client.additions)?;
        let body = (framing != BodyFraming::None).then_some(body);
        return Ok((Upload::to_http2(request, body, limits.max_body_bytes, now), false));
    }
    head.clear();
    let wishes = link::encode(&mut head, parts, framing, &client.additions)?;
    let body = (framing != BodyFraming::None).then_some(body);
    Ok((Upload::new(head, body, framing, wishes.waits, limits.max_body_bytes, now), wishes.upgrade))
}

/// Makes the client's answer of the backend's.
#[inline]
fn answer(client: &Client, arrival: Arrival, asked: Asked, spare: &mut Spare) -> Result<Response<Body>, StatusCode> {
    let Arrival { lease, head, whole, upload, is_sent, outcome } = arrival;
    let Head { status, headers, framing, keep_alive, upgrade: protocol } = head;
    let mut response = Response::new(Body::EMPTY);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    if status == StatusCode::SWITCHING_PROTOCOLS {
        // RFC 9110 section 15.2.2: only what was asked for.
        let protocol = protocol.filter(|_| asked.upgrade).ok_or(StatusCode::BAD_GATEWAY)?;
        response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("upgrade"));
        response.headers_mut().insert(header::UPGRADE, protocol);
        *client.tunnel.borrow_mut() = Some(Tunnel { lease, active: asked.active, answered_at: clock::now() });
        return Ok(response);
    }
    let now = clock::now();
    *response.body_mut() = match whole {
        Some(body) => {
            lease.complete(&client.worker, keep_alive && is_sent, outcome, now, now);
            spare.head = upload.into_buffer();
            Body::Whole(body)
        }
        None => {
            if outcome.is_success() {
                lease.pick.answered(now);
            }
            let download = Rc::new(RefCell::new(Download {
                lease: Some(lease),
                framing,
                keep_alive,
                outcome,
                upload: (!is_sent).then_some(upload),
                worker: Rc::clone(&client.worker),
                alarm: Alarm::default(),
                answered_at: now,
                waiting_since: None,
                left_since: Some(now),
                active: Some(asked.active),
                is_cut: false,
            }));
            client.watch.follow(&download);
            Body::Download(download)
        }
    };
    Ok(response)
}
