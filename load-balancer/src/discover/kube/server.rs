//! A simulated API server on loopback: lists and watches EndpointSlices, and misbehaves when told.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

#[derive(Default)]
struct State {
    slices: BTreeMap<String, Value>,
    version: u64,
    /// Each event with its version.
    log: Vec<(u64, Value)>,
    /// Watches from before this version are refused.
    oldest: u64,
    /// Whether such a watch is refused within the stream rather than by its status.
    gone_within: bool,
    /// Answers every request with this status, if it is not 0.
    status: u16,
    /// Raised to end all watches.
    epoch: u64,
    /// Whether a watch ends without the end of its body.
    breaks: bool,
    is_silent: bool,
    requests: Vec<String>,
}

#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    news: Arc<Notify>,
}

impl Server {
    /// Serves as long as the runtime runs.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State { version: 100, ..State::default() }));
        let server = Self { address, state, news: Arc::default() };
        let accepting = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = accepting.clone();
                tokio::spawn(async move { server.serve(BufStream::new(stream)).await });
            }
        });
        server
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
        self.news.notify_waiters();
    }

    /// Adds or modifies a slice. An endpoint is an address, its conditions (`r`eady, `s`erving, `t`erminating) and zone.
    pub(crate) fn put(&self, name: &str, port: u16, endpoints: &[(&str, &str, &str)]) {
        self.put_raw(name, slice(port, endpoints));
    }

    pub(crate) fn put_raw(&self, name: &str, mut slice: Value) {
        self.change(|state| {
            state.version += 1;
            slice["metadata"] = json!({"name": name, "resourceVersion": state.version.to_string()});
            let kind = if state.slices.contains_key(name) { "MODIFIED" } else { "ADDED" };
            state.slices.insert(name.to_owned(), slice.clone());
            state.log.push((state.version, json!({"type": kind, "object": slice})));
        });
    }

    pub(crate) fn delete(&self, name: &str) {
        self.change(|state| {
            state.version += 1;
            let mut slice = state.slices.remove(name).unwrap();
            slice["metadata"]["resourceVersion"] = state.version.to_string().into();
            state.log.push((state.version, json!({"type": "DELETED", "object": slice})));
        });
    }

    /// Sends an event that is in no list.
    pub(crate) fn send(&self, event: Value) {
        self.change(|state| {
            state.version += 1;
            state.log.push((state.version, event));
        });
    }

    pub(crate) fn bookmark(&self) {
        let version = (self.state.lock().unwrap().version + 1).to_string();
        self.send(json!({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": version}}}));
    }

    /// Ends all watches, with or without the end of their bodies.
    pub(crate) fn disconnect(&self, breaks: bool) {
        self.change(|state| (state.epoch, state.breaks) = (state.epoch + 1, breaks));
    }

    /// Forgets all events so far.
    pub(crate) fn compact(&self, gone_within: bool) {
        self.change(|state| {
            (state.oldest, state.gone_within) = (state.version, gone_within);
            state.log.clear();
        });
    }

    /// Answers every request like this; 200 for the usual answers, 0 for none.
    pub(crate) fn answer(&self, status: u16) {
        self.change(|state| (state.status, state.is_silent) = (if status == 200 { 0 } else { status }, status == 0));
    }

    /// The heads of all requests so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.state.lock().unwrap().requests.clone()
    }

    async fn serve(&self, mut stream: BufStream<TcpStream>) -> std::io::Result<()> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).await? == 0 {
                return Ok(());
            }
        }
        let (status, is_silent) = {
            let mut state = self.state.lock().unwrap();
            state.requests.push(head.clone());
            (state.status, state.is_silent)
        };
        if is_silent {
            std::future::pending::<()>().await;
        }
        if status != 0 {
            return reply(&mut stream, status, "{}").await;
        }
        let Some((_, version)) = head.split_once("resourceVersion=") else {
            let list = self.list();
            return reply(&mut stream, 200, &list).await;
        };
        let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
        self.watch(&mut stream, digits.parse().unwrap()).await
    }

    fn list(&self) -> String {
        let state = self.state.lock().unwrap();
        let items: Vec<_> = state.slices.values().collect();
        json!({"metadata": {"resourceVersion": state.version.to_string()}, "items": items}).to_string()
    }

    async fn watch(&self, stream: &mut BufStream<TcpStream>, mut version: u64) -> std::io::Result<()> {
        let (epoch, is_gone, within) = {
            let state = self.state.lock().unwrap();
            (state.epoch, version < state.oldest, state.gone_within)
        };
        if is_gone && !within {
            return reply(stream, 410, "{}").await;
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
        stream.flush().await?;
        if is_gone {
            let gone = json!({"type": "ERROR", "object": {"kind": "Status", "code": 410}});
            chunk(stream, &format!("{gone}\n")).await?;
        }
        loop {
            let news = self.news.notified();
            let mut news = std::pin::pin!(news);
            news.as_mut().enable();
            let (events, is_over, breaks) = {
                let state = self.state.lock().unwrap();
                let later = state.log.iter().filter(|(at, _)| *at > version).cloned();
                (later.collect::<Vec<_>>(), state.epoch != epoch, state.breaks)
            };
            for (at, event) in events {
                version = at;
                let line = format!("{event}\n");
                // Torn anywhere, as the network does.
                let (one, other) = line.split_at(line.len() / 2);
                chunk(stream, one).await?;
                chunk(stream, other).await?;
            }
            if is_over {
                if !breaks {
                    stream.write_all(b"0\r\n\r\n").await?;
                    stream.flush().await?;
                }
                return Ok(());
            }
            news.await;
        }
    }
}

async fn reply(stream: &mut BufStream<TcpStream>, status: u16, body: &str) -> std::io::Result<()> {
    let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.flush().await
}

async fn chunk(stream: &mut BufStream<TcpStream>, data: &str) -> std::io::Result<()> {
    stream.write_all(format!("{:x}\r\n{data}\r\n", data.len()).as_bytes()).await?;
    stream.flush().await
}

/// A slice with one port, named `http`.
pub(crate) fn slice(port: u16, endpoints: &[(&str, &str, &str)]) -> Value {
    let endpoint = |&(address, conditions, zone): &(&str, &str, &str)| {
        let has = |letter| conditions.contains(letter);
        let conditions = json!({"ready": has('r'), "serving": has('s'), "terminating": has('t')});
        let zone = if zone.is_empty() { Value::Null } else { zone.into() };
        json!({"addresses": [address], "conditions": conditions, "zone": zone})
    };
    let endpoints: Vec<_> = endpoints.iter().map(endpoint).collect();
    json!({"addressType": "IPv4", "endpoints": endpoints, "ports": [{"name": "http", "port": port, "protocol": "TCP"}]})
}
