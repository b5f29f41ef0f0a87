//! A small DNS server on loopback, over UDP and TCP, that answers as a test says.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use simple_dns::rdata::{A, AAAA, RData, SRV};
use simple_dns::{CLASS, Name, Packet, PacketFlag, RCODE, ResourceRecord, TYPE};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

/// What a server does when it is asked for a name.
#[derive(Clone, Debug)]
pub(crate) enum Manner {
    /// Answers with these records, and those beside them; no such name if both are empty.
    Answer { records: Vec<Entry>, additional: Vec<(&'static str, Entry)> },
    /// Answers with this code.
    Code(RCODE),
    /// Sends bytes that are no message.
    Garbage,
    /// Sends the first half of a message.
    Torn,
    /// Says nothing.
    Silence,
    /// Says over UDP that the answer is too long, and answers over TCP.
    Truncated(Vec<Entry>),
    /// Fails for IPv6 only.
    FailsV6(Vec<Entry>),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Entry {
    Address(IpAddr),
    Service { priority: u16, weight: u16, port: u16, target: &'static str },
}

struct Zone {
    manners: BTreeMap<String, Manner>,
    ttl: u32,
    /// How many questions came; asked by the tests that count.
    questions: u32,
    over_tcp: u32,
}

#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
}

impl Server {
    /// Serves as long as the runtime runs. Records live for 0 seconds.
    pub(crate) async fn start() -> Self {
        let zone = Zone { manners: BTreeMap::new(), ttl: 0, questions: 0, over_tcp: 0 };
        let zone = Arc::new(Mutex::new(zone));
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            // The same port may be taken for TCP.
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        tokio::spawn(serve_udp(udp, Arc::clone(&zone)));
        tokio::spawn(serve_tcp(tcp, Arc::clone(&zone)));
        Self { address, zone }
    }

    pub(crate) fn set(&self, name: &str, manner: Manner) {
        self.zone.lock().unwrap().manners.insert(name.to_owned(), manner);
    }

    /// `name` has these addresses.
    pub(crate) fn host(&self, name: &str, addresses: &[&str]) {
        let records = addresses.iter().map(|address| Entry::Address(address.parse().unwrap())).collect();
        self.set(name, Manner::Answer { records, additional: Vec::new() });
    }

    /// `name` is a service of these targets: priority, weight, port, host.
    pub(crate) fn service(&self, name: &str, targets: &[(u16, u16, u16, &'static str)]) {
        let service = |&(priority, weight, port, target)| Entry::Service { priority, weight, port, target };
        self.set(name, Manner::Answer { records: targets.iter().map(service).collect(), additional: Vec::new() });
    }

    pub(crate) fn set_ttl(&self, ttl: u32) {
        self.zone.lock().unwrap().ttl = ttl;
    }

    pub(crate) fn questions(&self) -> u32 {
        self.zone.lock().unwrap().questions
    }

    pub(crate) fn over_tcp(&self) -> u32 {
        self.zone.lock().unwrap().over_tcp
    }
}

async fn serve_udp(socket: UdpSocket, zone: Arc<Mutex<Zone>>) {
    let mut buffer = [0; 4096];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else { continue };
        let answer = zone.lock().unwrap().answer(&buffer[..length], false);
        if let Some(answer) = answer {
            let _ = socket.send_to(&answer, from).await;
        }
    }
}

async fn serve_tcp(listener: TcpListener, zone: Arc<Mutex<Zone>>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let zone = Arc::clone(&zone);
        tokio::spawn(async move {
            while let Ok(length) = stream.read_u16().await {
                let mut question = vec![0; length.into()];
                stream.read_exact(&mut question).await?;
                let answer = zone.lock().unwrap().answer(&question, true);
                if let Some(answer) = answer {
                    stream.write_u16(answer.len().try_into().unwrap()).await?;
                    stream.write_all(&answer).await?;
                }
            }
            std::io::Result::Ok(())
        });
    }
}

impl Zone {
    fn answer(&mut self, bytes: &[u8], is_tcp: bool) -> Option<Vec<u8>> {
        self.questions += 1;
        self.over_tcp += u32::from(is_tcp);
        let query = Packet::parse(bytes).ok()?;
        let question = query.questions.first()?.clone();
        let name = question.qname.to_string();
        let manner = self.manners.get(&name).cloned().unwrap_or(Manner::Code(RCODE::NameError));
        let mut reply = Packet::new_reply(query.id());
        reply.set_flags(PacketFlag::RECURSION_AVAILABLE | PacketFlag::RECURSION_DESIRED);
        reply.questions.push(question.clone());
        let is_v6 = question.qtype == TYPE::AAAA.into();
        let mut records = |entries: &[Entry]| {
            let fitting = entries.iter().filter(|entry| question.qtype == entry.kind().into());
            reply.answers.extend(fitting.map(|entry| entry.record(&name, self.ttl)));
        };
        match &manner {
            Manner::Answer { records: entries, additional } => {
                records(entries);
                if entries.is_empty() && additional.is_empty() {
                    *reply.rcode_mut() = RCODE::NameError;
                }
                reply.additional_records =
                    additional.iter().map(|(name, entry)| entry.record(name, self.ttl)).collect();
            }
            Manner::Code(code) => *reply.rcode_mut() = *code,
            Manner::FailsV6(_) if is_v6 => *reply.rcode_mut() = RCODE::ServerFailure,
            Manner::Truncated(_) if !is_tcp => reply.set_flags(PacketFlag::TRUNCATION),
            Manner::FailsV6(entries) | Manner::Truncated(entries) => records(entries),
            Manner::Garbage => return Some(vec![0xff; 40]),
            Manner::Silence => return None,
            Manner::Torn => {
                records(&[Entry::Address([10, 0, 0, 1].into())]);
                let mut bytes = reply.build_bytes_vec().unwrap();
                bytes.truncate(bytes.len() * 2 / 3);
                return Some(bytes);
            }
        }
        Some(reply.build_bytes_vec().unwrap())
    }
}

impl Entry {
    fn kind(&self) -> TYPE {
        match self {
            Self::Address(IpAddr::V4(_)) => TYPE::A,
            Self::Address(IpAddr::V6(_)) => TYPE::AAAA,
            Self::Service { .. } => TYPE::SRV,
        }
    }

    fn record(&self, name: &str, ttl: u32) -> ResourceRecord<'static> {
        let name = Name::new(name).unwrap().into_owned();
        let data = match *self {
            Self::Address(IpAddr::V4(address)) => RData::A(A { address: address.into() }),
            Self::Address(IpAddr::V6(address)) => RData::AAAA(AAAA { address: address.into() }),
            Self::Service { priority, weight, port, target } => {
                RData::SRV(SRV { priority, weight, port, target: Name::new(target).unwrap() })
            }
        };
        ResourceRecord::new(name, CLASS::IN, ttl, data)
    }
}
