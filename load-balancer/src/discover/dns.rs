//! Backends from DNS: the addresses of a name, or the targets of a service.
//!
//! The source asks again when the answer's time to live is over, on the host's tokio runtime, and never blocks it.
//! Answers come in any order and often rotated, so they are sorted and compared: only what differs is reported.
//!
//! What goes wrong takes nothing away. A name that does not exist, a server that fails or is silent, an answer that is
//! cut off or makes no sense: each is an error, and the backends before it stay. Where a service has many targets, or a
//! name has both kinds of addresses, what one question cannot find out keeps its last answer beside the new ones of the
//! others.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::Name;

use self::ask::Memory;
use self::records::Grace;
use super::timer::Timer;
use super::{Discover, DiscoverError};
use crate::{Backend, Change};

mod ask;
mod records;
#[cfg(test)]
mod server;
#[cfg(test)]
mod tests;

/// How a [`DnsSource`] asks, as data.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct DnsConfig {
    /// The servers to ask. Default: none, which means those of the system (`/etc/resolv.conf`), its search domains and
    /// its file of hosts.
    pub servers: Vec<SocketAddr>,
    /// The shortest time between two questions, whatever the answer's time to live; default 1 s. Shorter follows zones
    /// with a time to live of 0 more closely, and asks more.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub min_ttl: Duration,
    /// The longest time, likewise; default 5 min. Longer asks less, and notices later what a zone with a long time to
    /// live did not announce.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub max_ttl: Duration,
    /// How long a server may take for one question, before it or another one is asked again, at most twice; default
    /// 1.5 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub try_timeout: Duration,
    /// How long all questions of one round may take together; default 6 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub timeout: Duration,
    /// How many answers in a row must lack a backend before it is removed, from 1; default 1. More is for zones that
    /// answer with a part of their records, a different one each time.
    pub removal_after: u32,
    /// How many targets of a service are asked for; default 256. More are an error.
    pub max_targets: usize,
}

impl Default for DnsConfig {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            min_ttl: Duration::from_secs(1),
            max_ttl: Duration::from_secs(300),
            try_timeout: Duration::from_millis(1500),
            timeout: Duration::from_secs(6),
            removal_after: 1,
            max_targets: 256,
        }
    }
}

/// A source of the backends that DNS knows; feature `dns`. Must be polled within a tokio runtime with I/O and time.
///
/// # Examples
/// ```no_run
/// use tenfold_load_balancer::{Balancer, DnsSource, Drive};
///
/// async fn run(balancer: Balancer) {
///     let source = DnsSource::service("_http._tcp.web.example.org.").expect("it is a name");
///     Drive::new(source).run_all(|changes| balancer.apply_all(changes)).await;
/// }
/// ```
pub struct DnsSource {
    question: Question,
    config: DnsConfig,
    /// Made when it is needed, and anew after an error: the system's configuration may have changed.
    resolver: Option<TokioResolver>,
    memory: Memory,
    grace: Grace,
    /// What was reported last, unless an error was since.
    reported: Option<Vec<Backend>>,
    timer: Timer,
}

#[derive(Clone, Debug)]
enum Question {
    Addresses { name: Name, port: u16 },
    Service { name: Name },
}

impl DnsSource {
    /// The addresses of a name (A and AAAA), all with this port, weight and priority alike.
    ///
    /// A name that ends in a dot is complete; others are tried with the system's search domains.
    ///
    /// # Errors
    /// [`DnsNameError`], if it is not a name.
    pub fn addresses(name: &str, port: u16) -> Result<Self, DnsNameError> {
        Ok(Self::new(Question::Addresses { name: parse(name)?, port }))
    }

    /// The targets of a service (SRV, RFC 2782), as `_http._tcp.example.org.`
    ///
    /// The priorities of the records become those of the backends, numbered from 0 in their order, so that the lowest
    /// is the primary pool. The weights keep their proportions. A target with several addresses shares its weight among
    /// them. Where all weights of a priority are 0 they count alike; beside others, 0 is a hundredth of 1. The target
    /// "." says that there is no such service: an answer without backends. A record with port 0, to which nothing can be sent,
    /// is left out, and the others count.
    ///
    /// # Errors
    /// [`DnsNameError`], if it is not a name.
    pub fn service(name: &str) -> Result<Self, DnsNameError> {
        Ok(Self::new(Question::Service { name: parse(name)? }))
    }

    fn new(question: Question) -> Self {
        Self {
            question,
            config: DnsConfig::default(),
            resolver: None,
            memory: Memory::default(),
            grace: Grace::default(),
            reported: None,
            timer: Timer::default(),
        }
    }

    /// Replaces the configuration.
    #[must_use]
    pub fn config(mut self, config: DnsConfig) -> Self {
        self.config = config;
        self
    }

    /// One round of questions; the change, if there is one.
    async fn refresh(&mut self) -> Result<Option<Change>, DiscoverError> {
        let resolver = match &self.resolver {
            Some(resolver) => resolver,
            None => self.resolver.insert(ask::resolver(&self.config).await?),
        };
        let asking = ask::ask(resolver, &self.question, &self.memory, self.config.max_targets);
        let answer = tokio::time::timeout(self.config.timeout, asking).await;
        let answer = answer.map_err(|_| DiscoverError::timed_out())??;
        let min_ttl = self.config.min_ttl;
        self.timer.set(answer.ttl.unwrap_or(min_ttl).min(self.config.max_ttl).max(min_ttl));
        self.memory = answer.memory;
        let backends = self.grace.apply(records::backends(&answer.targets), self.config.removal_after);
        if self.reported.as_ref() == Some(&backends) {
            return Ok(None);
        }
        self.reported = Some(backends.clone());
        Ok(Some(Change::Replace(backends)))
    }
}

fn parse(name: &str) -> Result<Name, DnsNameError> {
    Name::from_utf8(name).ok().filter(|parsed| parsed.num_labels() > 0).ok_or(DnsNameError)
}

/// A text that is not a domain name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a domain name")]
#[non_exhaustive]
pub struct DnsNameError;

impl Discover for DnsSource {
    async fn next_change(&mut self) -> Option<Result<Change, DiscoverError>> {
        loop {
            self.timer.wait().await;
            match self.refresh().await {
                Ok(None) => {}
                Ok(Some(change)) => return Some(Ok(change)),
                Err(error) => {
                    // The next answer is reported even if it is the one before the error: that ends the alarm.
                    (self.resolver, self.reported) = (None, None);
                    return Some(Err(error));
                }
            }
        }
    }
}

impl fmt::Debug for DnsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DnsSource")
            .field("question", &self.question)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
