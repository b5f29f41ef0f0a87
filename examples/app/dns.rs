//! DNS for one name: a responder over UDP and a resolver that asks it.
//!
//! The message codec is simple-dns; what is here is the socket and the decision. Only `A` questions for the one name
//! are answered with an address. Another type for it is an empty answer, another name is NXDOMAIN, and what is not a
//! DNS query at all is dropped.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use simple_dns::rdata::{A, RData};
use simple_dns::{CLASS, Name, OPCODE, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, ResourceRecord, TYPE};
use tokio::net::UdpSocket;

/// The name that the product lives under; `.test` is reserved for uses like this one (RFC 6761).
pub const NAME: &str = "app.tenfold.test";

const MAX_MESSAGE_BYTES: usize = 512;
const TIMEOUT: Duration = Duration::from_secs(2);
const TTL_SECONDS: u32 = 1;

/// Why a name has no address.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// The socket failed.
    #[error("the DNS server cannot be asked")]
    Socket(#[from] io::Error),
    /// No answer in two seconds.
    #[error("the DNS server did not answer in time")]
    TimedOut,
    /// The answer is not a DNS answer to this question.
    #[error("the DNS answer cannot be read")]
    Garbled,
    /// The server says that there is no such name, or no address for it.
    #[error("the name has no address")]
    NoAddress,
}

/// Answers queries on `socket` until it fails: `name` is at `address`.
///
/// # Errors
///
/// The socket's error; a bad query is not one.
///
/// # Cancel safety
///
/// Safe; a query in hand goes unanswered, as any UDP query may.
pub async fn serve(socket: &UdpSocket, name: &str, address: Ipv4Addr) -> io::Result<()> {
    let mut buffer = [0; MAX_MESSAGE_BYTES];
    loop {
        let (length, client) = socket.recv_from(&mut buffer).await?;
        if let Some(reply) = answer(&buffer[..length], name, address) {
            // A client that has gone is its own concern; the server goes on.
            let _ = socket.send_to(&reply, client).await;
        }
    }
}

/// The answer to one query, `None` for bytes that are not one.
pub fn answer(query: &[u8], name: &str, address: Ipv4Addr) -> Option<Vec<u8>> {
    let query = Packet::parse(query).ok()?;
    if query.has_flags(PacketFlag::RESPONSE) || query.opcode() != OPCODE::StandardQuery {
        return None;
    }
    let [question] = query.questions.as_slice() else {
        return None;
    };
    let mut reply = Packet::new_reply(query.id());
    reply.set_flags(PacketFlag::AUTHORITATIVE_ANSWER);
    if query.has_flags(PacketFlag::RECURSION_DESIRED) {
        reply.set_flags(PacketFlag::RECURSION_DESIRED);
    }
    reply.questions.push(question.clone());
    if question.qname.to_string().eq_ignore_ascii_case(name) {
        if matches!(question.qtype, QTYPE::TYPE(TYPE::A) | QTYPE::ANY) {
            let record = RData::A(A { address: u32::from(address) });
            reply.answers.push(ResourceRecord::new(question.qname.clone(), CLASS::IN, TTL_SECONDS, record));
        }
    } else {
        *reply.rcode_mut() = RCODE::NameError;
    }
    reply.build_bytes_vec_compressed().ok()
}

/// Asks `server` for the address of `name`.
///
/// # Errors
///
/// A [`ResolveError`].
pub async fn resolve(server: SocketAddr, name: &str, id: u16) -> Result<Ipv4Addr, ResolveError> {
    let mut query = Packet::new_query(id);
    query.set_flags(PacketFlag::RECURSION_DESIRED);
    let qname = Name::new(name).map_err(|_| ResolveError::NoAddress)?;
    query.questions.push(Question::new(qname, QTYPE::TYPE(TYPE::A), QCLASS::CLASS(CLASS::IN), false));
    let query = query.build_bytes_vec().map_err(|_| ResolveError::NoAddress)?;

    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    socket.connect(server).await?;
    socket.send(&query).await?;
    let mut buffer = [0; MAX_MESSAGE_BYTES];
    let length =
        tokio::time::timeout(TIMEOUT, socket.recv(&mut buffer)).await.map_err(|_| ResolveError::TimedOut)??;
    let reply = Packet::parse(&buffer[..length]).map_err(|_| ResolveError::Garbled)?;
    if reply.id() != id || !reply.has_flags(PacketFlag::RESPONSE) {
        return Err(ResolveError::Garbled);
    }
    let address = reply.answers.iter().find_map(|record| match &record.rdata {
        RData::A(found) => Some(Ipv4Addr::from(found.address)),
        _ => None,
    });
    address.ok_or(ResolveError::NoAddress)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(name: &str, qtype: TYPE) -> Vec<u8> {
        let mut query = Packet::new_query(7);
        let qname = Name::new(name).unwrap();
        query.questions.push(Question::new(qname, QTYPE::TYPE(qtype), QCLASS::CLASS(CLASS::IN), false));
        query.build_bytes_vec().unwrap()
    }

    #[test]
    fn other_names_and_types_have_no_address() {
        let at = Ipv4Addr::LOCALHOST;
        let other = answer(&ask("elsewhere.test", TYPE::A), NAME, at).unwrap();
        assert_eq!(Packet::parse(&other).unwrap().rcode(), RCODE::NameError);
        let empty = answer(&ask(NAME, TYPE::AAAA), NAME, at).unwrap();
        let empty = Packet::parse(&empty).unwrap();
        assert!(empty.answers.is_empty() && empty.rcode() == RCODE::NoError);
    }

    #[test]
    fn bytes_that_are_no_query_are_dropped() {
        let reply = answer(&ask(NAME, TYPE::A), NAME, Ipv4Addr::LOCALHOST).unwrap();
        assert_eq!(answer(&reply, NAME, Ipv4Addr::LOCALHOST), None, "an answer is not a query");
        let query = ask(NAME, TYPE::A);
        for end in 0..query.len() {
            assert_eq!(answer(&query[..end], NAME, Ipv4Addr::LOCALHOST), None);
        }
    }
}
