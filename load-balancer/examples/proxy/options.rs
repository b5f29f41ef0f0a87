//! The command line: what the proxy listens on, where it sends, and every limit with its default.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use tenfold_load_balancer::{
    AddressPolicy, Config, HedgeConfig, HttpProbe, LimitConfig, Policy, ProbeConfig, RequestConfig,
};

use crate::probe::Prober;

/// Shown by `--help`.
pub(crate) const USAGE: &str = "\
A reverse proxy for HTTP/1.1, HTTP/2 (prior knowledge) and TCP.

  --listen ADDR             where clients connect (required); other processes of the same user may listen there too, so
                            that a new proxy can take over from an old one
  --backend ADDR[,WEIGHT]   a backend, as 127.0.0.1:8080 or 127.0.0.1:8080,3; once for each. Weight 0 drains it
  --config FILE             more backends, one ADDR[,WEIGHT] a line, each with a line end; read again on SIGHUP
  --private-only            refuses backends at addresses that are not private
  --mode http|tcp           default http
  --backend-http2           speaks HTTP/2 to backends, by prior knowledge; many requests share a connection
  --policy NAME             weighted-round-robin (default), round-robin, random, p2c, peak-ewma, prequal, least-request,
                            and by the client's address: ring-hash, maglev, capped-rendezvous, rendezvous
  --health-path PATH        asked for by active probes; good is a status from 200 to 399. Default: none
  --health-connect          active probes that only connect
  --admin ADDR              where to ask for /backends, /metrics and /healthz, and to POST /backends/add?addr=ADDR (with
                            &weight=N, if it is not 1), /backends/drain?addr=ADDR, /backends/remove?addr=ADDR;
                            default nowhere
  --threads N               default: one for each core

Limits, each with its default:
  --max-connections 10000   clients at a time; more wait in the listener's queue
  --max-idle 256            connections kept open to one backend by one thread
  --max-header-bytes 65536  head of a request (431) or of an answer (502)
  --max-headers 100         fields in a head
  --max-body-bytes 0        body of a request (413); 0 is no limit
  --limit none|adaptive     of requests in flight: default none, or one that is learnt; what is beyond it gets a 503
                            with Retry-After at once
  --limit-initial 500       where the adaptive limit begins, 4 to 10000
  --probe-interval 2s       between two probes of a backend that is well
  --probe-timeout 1s        for the answer of a probe
  --connect-timeout 200ms   to a backend
  --max-tries 3             of one request, hedges included, 1 to 8; what they add together is held to a fifth
  --try-timeout 1s          before an idempotent request goes to another backend as well
  --response-timeout 30s    from the whole request to the head of the answer, and between two parts of it (504)
  --header-timeout 10s      from the first byte of a request's head to its last (408)
  --client-timeout 30s      without a byte of the request's body (408), or while none of the answer is taken
  --idle-timeout 60s        a client without a request
  --pool-timeout 30s        a kept connection to a backend without a request; shorter than the backends' own
  --tunnel-timeout 10m      a TCP connection, or one after a 101, on which nothing comes either way
  --drain-timeout 30s       how long requests in flight may take at shutdown
  --no-hedge                sends no second copy of an idempotent request that takes longer than most
  --no-forwarded            adds no X-Forwarded-For, and leaves X-Forwarded-Proto as it came
  --no-via                  adds no Via
";

/// Everything the command line says.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) listen: SocketAddr,
    pub(crate) admin: Option<SocketAddr>,
    pub(crate) prober: Prober,
    pub(crate) private_only: bool,
    /// Whether backends are spoken to in HTTP/2.
    pub(crate) backend_http2: bool,
    /// Whether there is a limit of requests in flight.
    pub(crate) limit: bool,
    pub(crate) backends: Vec<BackendOption>,
    pub(crate) config: Option<PathBuf>,
    pub(crate) mode: Mode,
    pub(crate) policy: Policy,
    pub(crate) threads: usize,
    pub(crate) hedge: bool,
    pub(crate) forwarded: bool,
    pub(crate) via: bool,
    pub(crate) limits: Limits,
}

/// How much, how many and how long.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) max_connections: usize,
    pub(crate) max_idle: usize,
    pub(crate) max_header_bytes: usize,
    pub(crate) max_headers: usize,
    pub(crate) max_body_bytes: u64,
    pub(crate) max_tries: u8,
    pub(crate) limit_initial: u32,
    pub(crate) try_timeout: Duration,
    pub(crate) probe_interval: Duration,
    pub(crate) probe_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) response_timeout: Duration,
    pub(crate) header_timeout: Duration,
    pub(crate) client_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) pool_timeout: Duration,
    pub(crate) tunnel_timeout: Duration,
    pub(crate) drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_idle: 256,
            max_header_bytes: 64 << 10,
            max_headers: 100,
            max_body_bytes: u64::MAX,
            max_tries: 3,
            limit_initial: LimitConfig::default().initial,
            try_timeout: Duration::from_secs(1),
            probe_interval: Duration::from_secs(2),
            probe_timeout: Duration::from_secs(1),
            connect_timeout: Duration::from_millis(200),
            response_timeout: Duration::from_secs(30),
            header_timeout: Duration::from_secs(10),
            client_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(60),
            pool_timeout: Duration::from_secs(30),
            tunnel_timeout: Duration::from_secs(600),
            drain_timeout: Duration::from_secs(30),
        }
    }
}

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Http,
    Tcp,
}

/// `ADDR[,WEIGHT]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BackendOption {
    pub(crate) address: SocketAddr,
    pub(crate) weight: u32,
}

impl FromStr for BackendOption {
    type Err = OptionsError;

    fn from_str(text: &str) -> Result<Self, OptionsError> {
        let (address, weight) = text.split_once(',').unwrap_or((text, "1"));
        let (Ok(address), Ok(weight)) = (address.trim().parse(), weight.trim().parse()) else {
            return Err(OptionsError(format!("`{text}` is not ADDR[,WEIGHT]")));
        };
        Ok(Self { address, weight })
    }
}

/// What is wrong with the command line or the file.
#[derive(Debug)]
pub(crate) struct OptionsError(pub String);

impl fmt::Display for OptionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for OptionsError {}

impl From<lexopt::Error> for OptionsError {
    fn from(error: lexopt::Error) -> Self {
        Self(error.to_string())
    }
}

impl Options {
    /// The options of a command line; `None` if it asks for help.
    pub(crate) fn parse(mut arguments: lexopt::Parser) -> Result<Option<Self>, OptionsError> {
        use lexopt::prelude::*;
        let mut listen = None;
        let mut options = Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 0)),
            admin: None,
            prober: Prober::Nobody,
            private_only: false,
            backend_http2: false,
            limit: false,
            backends: vec![],
            config: None,
            mode: Mode::Http,
            policy: Policy::WeightedRoundRobin,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            hedge: true,
            forwarded: true,
            via: true,
            limits: Limits::default(),
        };
        while let Some(argument) = arguments.next()? {
            match argument {
                Short('h') | Long("help") => return Ok(None),
                Long("listen") => listen = Some(value(&mut arguments, "listen", address)?),
                Long("admin") => options.admin = Some(value(&mut arguments, "admin", address)?),
                Long("health-path") => options.prober = value(&mut arguments, "health-path", health_path)?,
                Long("health-connect") => options.prober = Prober::Tcp,
                Long("backend-http2") => options.backend_http2 = true,
                Long("private-only") => options.private_only = true,
                Long("limit") => options.limit = value(&mut arguments, "limit", limit)?,
                Long("backend") => options.backends.push(value(&mut arguments, "backend", str::parse)?),
                Long("config") => options.config = Some(arguments.value()?.into()),
                Long("mode") => options.mode = value(&mut arguments, "mode", mode)?,
                Long("policy") => options.policy = value(&mut arguments, "policy", str::parse::<Policy>)?,
                Long("threads") => options.threads = value(&mut arguments, "threads", at_least_one)?,
                Long("no-hedge") => options.hedge = false,
                Long("no-forwarded") => options.forwarded = false,
                Long("no-via") => options.via = false,
                // Before its value is asked for, which an option that is none does not have.
                Long(name) if !USAGE.contains(&format!("--{name} ")) => {
                    return Err(OptionsError(format!("there is no option --{name}")));
                }
                Long(name) => {
                    let name = name.to_owned();
                    let value = arguments.value()?.string()?;
                    options.limits.set(&name, &value)?;
                }
                other => return Err(other.unexpected().into()),
            }
        }
        options.listen = listen.ok_or_else(|| OptionsError("--listen is missing".into()))?;
        if options.backends.is_empty() && options.config.is_none() && options.admin.is_none() {
            return Err(OptionsError("no --backend, and no --config or --admin to add one".into()));
        }
        Ok(Some(options))
    }

    /// How backends are chosen and judged.
    pub(crate) fn balancer_config(&self) -> Config {
        let Limits { probe_interval: interval, probe_timeout: timeout, .. } = self.limits;
        let fast_interval = interval.min(ProbeConfig::default().fast_interval);
        let probes = ProbeConfig { interval, fast_interval, timeout, ..ProbeConfig::default() };
        let addresses = if self.private_only { AddressPolicy::PrivateOnly } else { AddressPolicy::Any };
        Config { policy: self.policy, addresses, probes: self.prober.sends().then_some(probes), ..Config::default() }
    }

    /// How backends are asked.
    pub(crate) fn prober(&self) -> Prober {
        match &self.prober {
            Prober::Http(_, path) if self.backend_http2 => Prober::Http2(path.clone()),
            prober => prober.clone(),
        }
    }

    /// How one request is tried.
    pub(crate) fn request_config(&self) -> RequestConfig {
        RequestConfig {
            max_tries: self.limits.max_tries,
            try_timeout: self.limits.try_timeout,
            deadline: self.limits.response_timeout,
            hedge: self.hedge.then(HedgeConfig::default),
            limit: self.limit.then(|| LimitConfig { initial: self.limits.limit_initial, ..LimitConfig::default() }),
            ..RequestConfig::default()
        }
    }

    /// The backends of the command line and of the file.
    pub(crate) fn read_backends(&self) -> Result<Vec<BackendOption>, OptionsError> {
        let mut backends = self.backends.clone();
        if let Some(path) = &self.config {
            backends.extend(read_file(path)?);
        }
        let mut seen = BTreeSet::new();
        match backends.iter().find(|backend| !seen.insert(backend.address)) {
            Some(twice) => Err(OptionsError(format!("the backend {} is given twice", twice.address))),
            None => Ok(backends),
        }
    }

    /// The same once more, while clients are served: a file without a backend is a mistake then. It may be empty for a
    /// moment, as long as somebody writes it.
    pub(crate) fn read_backends_again(&self) -> Result<Vec<BackendOption>, OptionsError> {
        let backends = self.read_backends()?;
        match &self.config {
            Some(path) if backends.len() == self.backends.len() => {
                Err(OptionsError(format!("{} names no backend", path.display())))
            }
            _ => Ok(backends),
        }
    }
}

fn read_file(path: &Path) -> Result<Vec<BackendOption>, OptionsError> {
    let wrong = |what: &dyn fmt::Display| OptionsError(format!("{}: {what}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
    if !text.is_empty() && !text.ends_with('\n') {
        // Half an address may be one, too.
        return Err(wrong(&"the last line has no end, so some of the file may be missing"));
    }
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    let backend = |line: &str| line.parse().map_err(|error: OptionsError| wrong(&error));
    lines.filter(|line| !line.is_empty()).map(backend).collect()
}

impl Limits {
    fn set(&mut self, name: &str, value: &str) -> Result<(), OptionsError> {
        let wrong = || OptionsError(format!("`{value}` is no value for --{name}, as --help describes it"));
        let count = || value.parse::<usize>().ok().filter(|count| *count > 0).ok_or_else(wrong);
        let time = || duration(value).ok_or_else(wrong);
        match name {
            "max-connections" => self.max_connections = count()?,
            "max-idle" => self.max_idle = value.parse().map_err(|_| wrong())?,
            // Less than this and hyper has no room for a head.
            "max-header-bytes" => self.max_header_bytes = count()?.max(8 << 10),
            "max-headers" => self.max_headers = count()?,
            "max-body-bytes" => {
                let bytes = value.parse().map_err(|_| wrong())?;
                self.max_body_bytes = if bytes == 0 { u64::MAX } else { bytes };
            }
            "limit-initial" => self.limit_initial = within(value, 4..=10_000).ok_or_else(wrong)?,
            "max-tries" => self.max_tries = within(value, 1..=8).ok_or_else(wrong)?,
            "try-timeout" => self.try_timeout = time()?,
            "probe-interval" => self.probe_interval = time()?,
            "probe-timeout" => self.probe_timeout = time()?,
            "connect-timeout" => self.connect_timeout = time()?,
            "response-timeout" => self.response_timeout = time()?,
            "header-timeout" => self.header_timeout = time()?,
            "client-timeout" => self.client_timeout = time()?,
            "idle-timeout" => self.idle_timeout = time()?,
            "pool-timeout" => self.pool_timeout = time()?,
            "tunnel-timeout" => self.tunnel_timeout = time()?,
            "drain-timeout" => self.drain_timeout = time()?,
            _ => return Err(OptionsError(format!("there is no option --{name}"))),
        }
        Ok(())
    }
}

/// The value of an option, read. What is wrong with it is said with the option's name.
fn value<T, E: fmt::Display>(
    arguments: &mut lexopt::Parser,
    name: &str,
    read: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, OptionsError> {
    use lexopt::ValueExt;
    let text = arguments.value()?.string()?;
    read(&text).map_err(|error| OptionsError(format!("--{name}: {error}")))
}

fn address(text: &str) -> Result<SocketAddr, OptionsError> {
    text.parse().map_err(|_| OptionsError(format!("`{text}` is not an address and a port, as 127.0.0.1:8080")))
}

/// A number that is in this range.
fn within<T: FromStr + PartialOrd>(text: &str, range: RangeInclusive<T>) -> Option<T> {
    text.parse().ok().filter(|number| range.contains(number))
}

/// `250ms`, `3s` or `2m`; at most a day, so that no deadline overflows.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let millis = match unit {
        "ms" => number,
        "s" => number.checked_mul(1000)?,
        "m" => number.checked_mul(60_000)?,
        _ => return None,
    };
    (1..=86_400_000).contains(&millis).then(|| Duration::from_millis(millis))
}

fn mode(text: &str) -> Result<Mode, OptionsError> {
    match text {
        "http" => Ok(Mode::Http),
        "tcp" => Ok(Mode::Tcp),
        _ => Err(OptionsError(format!("there is no mode `{text}`, only http and tcp"))),
    }
}

fn limit(text: &str) -> Result<bool, OptionsError> {
    match text {
        "none" => Ok(false),
        "adaptive" => Ok(true),
        _ => Err(OptionsError(format!("there is no limit `{text}`, only none and adaptive"))),
    }
}

fn health_path(text: &str) -> Result<Prober, OptionsError> {
    let probe = HttpProbe::new(text).map_err(|error| OptionsError(error.to_string()))?;
    Ok(Prober::Http(probe, text.to_owned()))
}

fn at_least_one(text: &str) -> Result<usize, OptionsError> {
    text.parse()
        .ok()
        .filter(|count| *count > 0)
        .ok_or_else(|| OptionsError(format!("`{text}` is not a number of threads")))
}
