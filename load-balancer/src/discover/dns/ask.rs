//! The questions of one round, and what is made of their answers.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::{TokioResolver, lookup::Lookup};

use super::records::Target;
use super::{DnsConfig, Question};
use crate::DiscoverError;

/// The last good answer of each question for addresses: by name, and whether for IPv6.
pub(super) type Memory = BTreeMap<(Name, bool), Vec<IpAddr>>;

pub(super) struct Answer {
    pub(super) targets: Vec<Target>,
    /// Of the questions of this round alone, so that it does not grow.
    pub(super) memory: Memory,
    /// The shortest of all records.
    pub(super) ttl: Option<Duration>,
}

/// So many targets of a service are asked for at the same time.
const CONCURRENCY: usize = 8;
/// How often a question is asked anew.
const RETRIES: usize = 2;

/// Reads the system's configuration if it is needed, which blocks, on a thread for that.
pub(super) async fn resolver(config: &DnsConfig) -> Result<TokioResolver, DiscoverError> {
    let config = config.clone();
    let built = tokio::task::spawn_blocking(move || build(&config)).await;
    built.map_err(DiscoverError::unavailable)?.map_err(DiscoverError::unavailable)
}

fn build(config: &DnsConfig) -> Result<TokioResolver, NetError> {
    let mut builder = if config.servers.is_empty() {
        TokioResolver::builder_tokio()?
    } else {
        let servers = config.servers.iter().map(|server| {
            let at_port = |mut connection: ConnectionConfig| {
                connection.port = server.port();
                connection
            };
            NameServerConfig::new(
                server.ip(),
                true,
                [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(at_port).into(),
            )
        });
        let resolver_config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
        let mut builder = TokioResolver::builder_with_config(resolver_config, TokioRuntimeProvider::default());
        builder.options_mut().use_hosts_file = ResolveHosts::Never;
        builder
    };
    let options = builder.options_mut();
    (options.timeout, options.attempts) = (config.try_timeout, RETRIES);
    // The source itself waits for the time to live; an answer from a cache would be an old one.
    options.cache_size = 0;
    builder.build()
}

pub(super) async fn ask(
    resolver: &TokioResolver,
    question: &Question,
    before: &Memory,
    max_targets: usize,
) -> Result<Answer, DiscoverError> {
    resolver.clear_cache();
    match question {
        Question::Addresses { name, port } => {
            let host = ask_host(resolver, name, before).await;
            if let Some(error) = host.error {
                return Err(error);
            }
            let target = Target { priority: 0, weight: 0, port: *port, addresses: host.addresses };
            Ok(Answer { targets: vec![target], memory: host.memory, ttl: host.ttl })
        }
        Question::Service { name } => ask_service(resolver, name, before, max_targets).await,
    }
}

async fn ask_service(
    resolver: &TokioResolver,
    name: &Name,
    before: &Memory,
    max_targets: usize,
) -> Result<Answer, DiscoverError> {
    let lookup = match resolver.lookup(name.clone(), RecordType::SRV).await {
        Ok(lookup) => lookup,
        Err(error) if error.is_no_records_found() && !error.is_nx_domain() => {
            return Ok(Answer { targets: Vec::new(), memory: Memory::new(), ttl: None });
        }
        Err(error) => return Err(classify(error)),
    };
    let services: Vec<&SRV> = lookup.answers().iter().filter_map(service).collect();
    let mut hosts: BTreeMap<Name, Host> =
        services.iter().map(|srv| (srv.target.clone(), Host::from_additional(&lookup, &srv.target))).collect();
    if hosts.len() > max_targets {
        return Err(DiscoverError::too_many(max_targets));
    }
    let unknown: Vec<Name> =
        hosts.iter().filter(|(_, host)| host.addresses.is_empty()).map(|(name, _)| name.clone()).collect();
    let asked: Vec<_> = stream::iter(unknown)
        .map(|name| async move {
            let host = ask_host(resolver, &name, before).await;
            (name, host)
        })
        .buffer_unordered(CONCURRENCY)
        .collect()
        .await;
    hosts.extend(asked);
    let is_lost =
        |host: &Host| host.addresses.is_empty() && host.error.as_ref().is_some_and(DiscoverError::is_unavailable);
    if !hosts.is_empty() && hosts.values().all(is_lost) {
        return Err(hosts.into_values().find_map(|host| host.error).expect("each has one"));
    }
    let addresses = |name: &Name| hosts.get(name).map(|host| host.addresses.clone()).unwrap_or_default();
    let targets = services.iter().map(|srv| Target {
        priority: srv.priority,
        weight: srv.weight,
        port: srv.port,
        addresses: addresses(&srv.target),
    });
    let targets = targets.collect();
    let ttl = hosts.values().filter_map(|host| host.ttl).chain(ttl(lookup.answers())).min();
    Ok(Answer { targets, memory: hosts.into_values().flat_map(|host| host.memory).collect(), ttl })
}

/// The target of a record, if it names one that can be connected to.
fn service(record: &Record) -> Option<&SRV> {
    let RData::SRV(srv) = &record.data else { return None };
    // RFC 2782: "A Target of "." means that the service is decidedly not available at this domain." Such records have port 0,
    // and so have those of an operator who took out one target of several.
    (!srv.target.is_root() && srv.port != 0).then_some(srv)
}

/// What is known of one name.
#[derive(Default)]
struct Host {
    addresses: Vec<IpAddr>,
    memory: Memory,
    ttl: Option<Duration>,
    /// Why nothing new is known of it, neither of IPv4 nor of IPv6; or that there is no such name.
    error: Option<DiscoverError>,
}

impl Host {
    /// Servers mostly send the addresses of a service's targets along.
    fn from_additional(lookup: &Lookup, name: &Name) -> Self {
        let records: Vec<_> = lookup.additionals().iter().filter(|record| record.name == *name).cloned().collect();
        let mut host = Self { addresses: addresses(&records), ttl: ttl(&records), ..Self::default() };
        for address in &host.addresses {
            host.memory.entry((name.clone(), address.is_ipv6())).or_default().push(*address);
        }
        host
    }
}

/// Asks for both kinds of addresses at once. One that cannot be found out is as it was before.
async fn ask_host(resolver: &TokioResolver, name: &Name, before: &Memory) -> Host {
    let kinds = [(false, RecordType::A), (true, RecordType::AAAA)];
    let [v4, v6] = kinds.map(|(_, kind)| resolver.lookup(name.clone(), kind));
    let (v4, v6) = futures_util::join!(v4, v6);
    let mut host = Host::default();
    let mut errors = Vec::new();
    for (is_v6, lookup) in [(false, v4), (true, v6)] {
        let known = match lookup {
            Ok(lookup) => {
                host.ttl = host.ttl.into_iter().chain(ttl(lookup.answers())).min();
                addresses(lookup.answers())
            }
            Err(error) if error.is_no_records_found() && !error.is_nx_domain() => Vec::new(),
            Err(error) => {
                errors.push(classify(error));
                before.get(&(name.clone(), is_v6)).cloned().unwrap_or_default()
            }
        };
        host.addresses.extend(&known);
        host.memory.insert((name.clone(), is_v6), known);
    }
    host.error = if errors.len() == kinds.len() { errors.pop() } else { None };
    host
}

fn addresses(records: &[Record]) -> Vec<IpAddr> {
    let address = |record: &Record| match &record.data {
        RData::A(a) => Some(IpAddr::V4(a.0)),
        RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
        _ => None,
    };
    records.iter().filter_map(address).collect()
}

fn ttl(records: &[Record]) -> Option<Duration> {
    records.iter().map(|record| Duration::from_secs(record.ttl.into())).min()
}

fn classify(error: NetError) -> DiscoverError {
    match &error {
        NetError::Timeout => DiscoverError::timed_out(),
        NetError::Io(io) if io.kind() == io::ErrorKind::TimedOut => DiscoverError::timed_out(),
        NetError::Proto(_) => DiscoverError::invalid(error),
        _ if error.is_nx_domain() => DiscoverError::not_found(error),
        _ => DiscoverError::unavailable(error),
    }
}
