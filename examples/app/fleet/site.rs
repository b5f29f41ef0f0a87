//! A running system of a balancer, web servers and a database server, as the trials see it.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use tenfold_rig::{Cost, Node, NodeSpec, RoleResult};

use crate::balancer::{BackendView, Counts, Rules};
use crate::http::{CallError, Http};
use crate::rung::{Climb, Stack};
use crate::web::WebStats;

const TIMEOUT: Duration = Duration::from_secs(15);
/// The tiers' subnets: 127.0.1.0/24 and so on, or 10.77.1.0/24 in a network of one's own.
const WEB: u8 = 1;
const DATABASE: u8 = 2;

/// What a trial wants built.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Setup {
    /// Web servers that the balancer begins with.
    pub webs: u8,
    /// Web servers that run beside them and are not in its pool yet.
    pub spares: u8,
    /// How the balancer works; without one, the clients go to the web servers themselves.
    pub balancer: Option<Rules>,
    /// Whether web and database servers take their modelled time.
    pub is_modelled: bool,
    /// Whether the web servers read the database's file themselves, and cache what they read.
    pub is_database_near: bool,
    /// Whether the processes have a network of their own, with private addresses beyond those of the loopback.
    pub has_own_network: bool,
}

impl Default for Setup {
    /// Three web servers behind a balancer with failover.
    fn default() -> Self {
        let balancer = Some(Rules::default());
        Self { webs: 3, spares: 0, balancer, is_modelled: true, is_database_near: false, has_own_network: false }
    }
}

impl Setup {
    /// The same with a balancer of other rules.
    #[must_use]
    pub fn with(self, rules: Rules) -> Self {
        Self { balancer: Some(rules), ..self }
    }

    /// The same with a balancer that lets a request fail where it was sent.
    #[must_use]
    pub fn without_failover(self) -> Self {
        self.with(Rules::default().without_failover())
    }

    /// The same for counting who answers: nothing takes modelled time, and no request goes on to the database server.
    #[must_use]
    pub fn to_count(self) -> Self {
        Self { is_modelled: false, is_database_near: true, ..self }
    }

    /// Puts a web server at its private address.
    #[must_use]
    pub fn web(&self, number: u8, spec: NodeSpec) -> NodeSpec {
        self.place(WEB, number, spec)
    }

    /// Puts the database server at its private address.
    #[must_use]
    pub fn database(&self, spec: NodeSpec) -> NodeSpec {
        self.place(DATABASE, 1, spec)
    }

    /// Puts the balancer where clients find it: at 127.0.0.1, unless the network says otherwise.
    #[must_use]
    pub fn front(&self, spec: NodeSpec) -> NodeSpec {
        if self.has_own_network { spec.in_own_network(super::island::FRONT) } else { spec }
    }

    fn place(&self, tier: u8, number: u8, spec: NodeSpec) -> NodeSpec {
        if self.has_own_network {
            spec.in_own_network(Ipv4Addr::new(10, 77, tier, number))
        } else {
            spec.ip(Ipv4Addr::new(127, 0, tier, number))
        }
    }
}

/// A system and how it is run, in a form that can travel to another process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// What is modelled.
    pub cost: Cost,
    /// Determines what is random.
    pub seed: u64,
    /// What is built.
    pub setup: Setup,
}

impl Plan {
    /// A system of this climb.
    pub fn new(climb: &Climb, setup: Setup) -> Self {
        let cost = if setup.is_modelled { climb.cost } else { Cost::real() };
        Self { cost, seed: climb.seed, setup }
    }
}

/// The running system.
#[derive(Debug)]
pub struct Fleet {
    /// Its processes and the address that clients know.
    pub stack: Stack,
    /// The web servers, those that wait included.
    pub webs: Vec<Node>,
    /// The database server.
    pub database: Node,
    http: Http,
}

impl Fleet {
    /// A view of running processes.
    pub fn new(stack: Stack, webs: Vec<Node>, database: Node) -> Self {
        Self { stack, webs, database, http: Http::new(TIMEOUT) }
    }

    /// The balancer's address for operators.
    ///
    /// # Errors
    ///
    /// There is no balancer.
    pub fn operator(&self) -> RoleResult<Operator> {
        let balancer = self.stack.tiers.all().into_iter().find(|node| node.announced("admin").is_some());
        let balancer = balancer.ok_or("this system has no balancer")?;
        let admin = balancer.announced("admin").ok_or("the balancer announced no admin address")?;
        Ok(Operator { balancer, admin, http: self.http.clone() })
    }

    /// How many reads each web server has answered, by its own count.
    ///
    /// # Errors
    ///
    /// One does not answer.
    pub async fn answered(&self) -> Result<Vec<u64>, CallError> {
        let mut counts = Vec::new();
        for web in &self.webs {
            let stats: WebStats = self.http.get(web.addr(), "/stats").await?.json()?;
            counts.push(stats.hits + stats.misses);
        }
        Ok(counts)
    }
}

/// Who changes the pool of a balancer.
#[derive(Debug, Clone)]
pub struct Operator {
    /// Its process.
    pub balancer: Node,
    admin: SocketAddr,
    http: Http,
}

impl Operator {
    /// Whether the backend at `address` takes requests now.
    ///
    /// # Errors
    ///
    /// The balancer does not answer.
    pub async fn takes_requests(&self, address: SocketAddr) -> Result<bool, CallError> {
        let backends: Vec<BackendView> = self.http.get(self.admin, "/backends").await?.json()?;
        Ok(backends.iter().any(|backend| backend.address == address && backend.takes_requests))
    }

    /// What the balancer has done since its start.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub async fn counts(&self) -> Result<Counts, CallError> {
        self.http.get(self.admin, "/counts").await?.json()
    }

    /// Lets a server join.
    ///
    /// # Errors
    ///
    /// The balancer does not answer.
    pub async fn add(&self, address: SocketAddr) -> Result<StatusCode, CallError> {
        self.post("add", address).await
    }

    /// Sends a server no new requests and waits for the last one to end.
    ///
    /// # Errors
    ///
    /// The balancer does not answer.
    pub async fn drain(&self, address: SocketAddr) -> Result<StatusCode, CallError> {
        self.post("drain", address).await
    }

    /// Takes a server out.
    ///
    /// # Errors
    ///
    /// The balancer does not answer.
    pub async fn remove(&self, address: SocketAddr) -> Result<StatusCode, CallError> {
        self.post("remove", address).await
    }

    async fn post(&self, what: &str, address: SocketAddr) -> Result<StatusCode, CallError> {
        let path = format!("/backends/{what}?addr={address}");
        Ok(self.http.call(Method::POST, self.admin, &path, Bytes::new()).await?.status)
    }
}
