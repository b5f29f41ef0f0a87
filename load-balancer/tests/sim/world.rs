//! The world: time, arrivals, the requests on their way, and the balancer under test.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tenfold_load_balancer::{
    Action, Attempt, BackendState, BackendStats, Balancer, ConcurrencyLimit, Config, Exchange, Failure, HealthState,
    Outcome, OutlierConfig, Permit, Pick, Picker, Policy, Priority, Request, RequestConfig, RequestPolicy, Rng,
};

use crate::backend::{Arrival, Backend, Ill, MS, Nanos, S, Service, Ticket};

/// What is simulated.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) backends: usize,
    pub(crate) slots: usize,
    pub(crate) service: Service,
    /// Requests a second.
    pub(crate) rate: u64,
    /// So many clients, if any, each of which asks again once it has its answer; then there is no rate.
    pub(crate) clients: usize,
    pub(crate) length: Nanos,
    pub(crate) policy: Policy,
    pub(crate) request: RequestConfig,
    pub(crate) outlier: OutlierConfig,
    /// At this time the rate becomes this.
    pub(crate) rates: Vec<(Nanos, u64)>,
    /// At this time this happens to the backend of this number.
    pub(crate) faults: Vec<(Nanos, usize, Ill)>,
}

impl Default for Plan {
    /// 1000 requests a second for 6 s over three backends that could take 2400.
    fn default() -> Self {
        Self {
            backends: 3,
            slots: 8,
            service: Service::Exponential(10 * MS),
            rate: 1000,
            clients: 0,
            length: 6 * S,
            policy: Policy::RoundRobin,
            request: RequestConfig::default(),
            outlier: OutlierConfig::default(),
            rates: Vec::new(),
            faults: Vec::new(),
        }
    }
}

/// What came of one request.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct Fate {
    pub(crate) arrived: Nanos,
    pub(crate) took: Nanos,
    pub(crate) is_success: bool,
    /// Whether it was sent to nobody, because enough were in flight.
    pub(crate) is_refused: bool,
}

/// What came of it all.
#[derive(Debug, Default)]
pub(crate) struct Story {
    pub(crate) fates: Vec<Fate>,
    /// Requests that each backend saw.
    pub(crate) seen: Vec<u64>,
    /// When each try was sent.
    pub(crate) sent: Vec<Nanos>,
    /// From when to when each backend took no requests.
    pub(crate) out: Vec<Vec<(Nanos, Nanos)>>,
    /// Picks of a backend that was out while another was in.
    pub(crate) bad_picks: u64,
    /// Times of which nothing that begins then was ended at the end.
    pub(crate) unfinished: usize,
}

impl Story {
    pub(crate) fn failed(&self) -> usize {
        self.fates.iter().filter(|fate| !fate.is_success).count()
    }

    /// Requests that arrived in this time and took longer than `bound`.
    pub(crate) fn slow(&self, from: Nanos, to: Nanos, bound: Nanos) -> usize {
        self.fates.iter().filter(|fate| (from..to).contains(&fate.arrived) && fate.took > bound).count()
    }

    /// Tries that were sent in this time, for each request that arrived in it.
    pub(crate) fn amplification(&self, from: Nanos, to: Nanos) -> f64 {
        let arrived = self.fates.iter().filter(|fate| (from..to).contains(&fate.arrived)).count();
        self.sent.iter().filter(|at| (from..to).contains(*at)).count() as f64 / arrived as f64
    }

    /// One number for all that happened.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.fates, &self.seen, &self.out).hash(&mut hasher);
        hasher.finish()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrive,
    /// A try ends at the backend that serves it, in this life of it.
    Serve {
        ticket: Ticket,
        life: u64,
    },
    /// The balancer learns how a try ended.
    Learn {
        ticket: Ticket,
    },
    Timer {
        request: u64,
    },
    Tick,
    Fault {
        number: usize,
    },
    Rate {
        number: usize,
    },
}

struct Journey {
    exchange: Exchange,
    arrived: Nanos,
    picks: HashMap<Attempt, Pick>,
    /// How the try that ended last did.
    last: Option<Outcome>,
    _permit: Option<Permit<Arc<ConcurrencyLimit>>>,
}

/// A try at a backend.
struct Try {
    request: u64,
    attempt: Attempt,
    backend: usize,
    outcome: Outcome,
}

pub(crate) struct World {
    plan: Plan,
    origin: Instant,
    now: Nanos,
    events: BinaryHeap<Reverse<(Nanos, u64, Event)>>,
    order: u64,
    balancer: Balancer,
    pickers: Vec<Picker>,
    requests: RequestPolicy,
    backends: Vec<Backend>,
    journeys: HashMap<u64, Journey>,
    tries: HashMap<Ticket, Try>,
    next: u64,
    rng: Rng,
    rate: u64,
    out_since: Vec<Option<Nanos>>,
    story: Story,
}

fn address(number: usize) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 1000 + number as u16))
}

fn number(address: SocketAddr) -> usize {
    usize::from(address.port()) - 1000
}

impl World {
    pub(crate) fn run(plan: &Plan, seed: u64) -> Story {
        let mut world = Self::new(plan.clone(), seed);
        (0..plan.clients.max(1)).for_each(|_| world.schedule(0, Event::Arrive));
        world.schedule(0, Event::Tick);
        for number in 0..plan.faults.len() {
            world.schedule(plan.faults[number].0, Event::Fault { number });
        }
        for number in 0..plan.rates.len() {
            world.schedule(plan.rates[number].0, Event::Rate { number });
        }
        // Requests that are on their way at the end get time to arrive.
        while let Some(Reverse((at, _, event))) = world.events.pop() {
            if at > plan.length + 20 * S {
                break;
            }
            world.now = at;
            world.happens(event);
        }
        world.tell()
    }

    fn new(plan: Plan, seed: u64) -> Self {
        let origin = Instant::now();
        let mut rng = Rng::new(seed);
        let config = Config { policy: plan.policy, outlier: plan.outlier.clone(), ..Config::default() };
        let balancer: Balancer =
            Balancer::builder().config(config).seed(rng.next_u64()).started_at(origin).build().unwrap();
        let list = (0..plan.backends).map(|number| tenfold_load_balancer::Backend::new(address(number)));
        balancer.replace(list.collect()).unwrap();
        let pickers = (0..4).map(|_| balancer.picker()).collect();
        let requests = RequestPolicy::new(plan.request.clone(), origin).unwrap().with_seed(rng.next_u64());
        let backends = (0..plan.backends).map(|_| Backend::new(plan.service, plan.slots, rng.next_u64()));
        let backends: Vec<_> = backends.collect();
        let story = Story { out: vec![Vec::new(); plan.backends], ..Story::default() };
        Self {
            origin,
            now: 0,
            events: BinaryHeap::new(),
            order: 0,
            balancer,
            pickers,
            requests,
            out_since: vec![None; plan.backends],
            backends,
            journeys: HashMap::new(),
            tries: HashMap::new(),
            next: 0,
            rng,
            rate: plan.rate,
            plan,
            story,
        }
    }

    fn instant(&self) -> Instant {
        self.origin + Duration::from_nanos(self.now)
    }

    fn schedule(&mut self, at: Nanos, event: Event) {
        self.order += 1;
        self.events.push(Reverse((at.max(self.now), self.order, event)));
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Arrive => self.arrive(),
            Event::Serve { ticket, life } => self.served(ticket, life),
            Event::Learn { ticket } => self.learn(ticket),
            Event::Timer { request } => {
                let now = self.instant();
                if let Some(journey) = self.journeys.get_mut(&request) {
                    journey.exchange.timer(&self.requests, now);
                    self.go_on(request);
                }
            }
            Event::Tick => {
                self.balancer.tick(self.instant());
                self.watch();
                if self.now < self.plan.length + 20 * S {
                    self.schedule(self.now + 20 * MS, Event::Tick);
                }
            }
            Event::Fault { number } => self.befall(number),
            Event::Rate { number } => self.rate = self.plan.rates[number].1,
        }
    }

    fn arrive(&mut self) {
        if self.now >= self.plan.length {
            return;
        }
        self.begin();
        if self.plan.clients > 0 {
            return;
        }
        let uniform = (self.rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        let gap = -(1.0 - uniform).ln() * S as f64 / self.rate as f64;
        self.schedule(self.now + gap as Nanos, Event::Arrive);
    }

    /// Lets one request in, if there is room for it.
    fn begin(&mut self) {
        let permit = self.requests.limit().map(|limit| Permit::of(Arc::clone(limit), Priority::Default)).transpose();
        let Ok(_permit) = permit else {
            let fate = Fate { arrived: self.now, took: 0, is_success: false, is_refused: true };
            return self.story.fates.push(fate);
        };
        self.next += 1;
        let mut exchange = Exchange::new(&self.requests, true, None, self.instant());
        exchange.report_slow(self.balancer.slow_after());
        let journey = Journey { exchange, arrived: self.now, picks: HashMap::new(), last: None, _permit };
        self.journeys.insert(self.next, journey);
        self.go_on(self.next);
    }

    /// Does what the request's machine asks for, until it waits or is done.
    fn go_on(&mut self, request: u64) {
        let now = self.instant();
        loop {
            let Some(journey) = self.journeys.get_mut(&request) else { return };
            match journey.exchange.action() {
                Action::Pick => self.pick(request),
                Action::Overdue(attempt) => journey.picks[&attempt].overdue(now),
                Action::TimedOut(attempt) => {
                    let pick = journey.picks.remove(&attempt);
                    pick.expect("it is in flight").finish(Outcome::Failure(Failure::TimedOut), now);
                }
                Action::Wait(until) => {
                    let at = until.saturating_duration_since(self.origin).as_nanos() as Nanos;
                    return self.schedule(at, Event::Timer { request });
                }
                Action::Return(_) => return self.done(request, true),
                Action::Fail(_) => return self.done(request, false),
                other => panic!("{other:?}"),
            }
        }
    }

    fn done(&mut self, request: u64, is_answered: bool) {
        let mut journey = self.journeys.remove(&request).expect("it is on its way");
        journey.picks.drain().for_each(|(_, pick)| pick.cancel(self.origin + Duration::from_nanos(self.now)));
        let is_success = is_answered && journey.last == Some(Outcome::Success);
        let took = self.now - journey.arrived;
        self.story.fates.push(Fate { arrived: journey.arrived, took, is_success, is_refused: false });
        if self.plan.clients > 0 {
            self.schedule(self.now + MS, Event::Arrive);
        }
    }

    fn pick(&mut self, request: u64) {
        let (now, which) = (self.instant(), self.rng.below(self.pickers.len() as u64) as usize);
        let journey = self.journeys.get_mut(&request).expect("it is on its way");
        let asked = Request { avoid: journey.exchange.tried(), ..Request::default() };
        let Ok(pick) = self.pickers[which].pick(&asked, now) else { return journey.exchange.not_picked() };
        let late = journey.exchange.hedged().and_then(|late| journey.picks.get(&late));
        if late.is_some_and(|late| !pick.is_idler_than(late)) {
            return journey.exchange.not_picked();
        }
        let Some(attempt) = journey.exchange.picked(&self.requests, pick.id(), now) else { return };
        let backend = number(pick.address());
        journey.picks.insert(attempt, pick);
        self.story.sent.push(self.now);
        self.check_pick(backend);
        self.next += 1;
        let ticket = self.next;
        self.tries.insert(ticket, Try { request, attempt, backend, outcome: Outcome::Success });
        let arrival = self.backends[backend].arrive(ticket);
        self.follow(ticket, arrival);
    }

    /// A backend that is out is picked only if too many are. (One on trial is out, but gets a request at a time.)
    fn check_pick(&mut self, backend: usize) {
        let all = self.balancer.backends();
        let is_out = |stats: &&BackendStats| matches!(stats.state, BackendState::Ejected | BackendState::Down);
        let out = all.iter().filter(is_out).count();
        let picked = all.iter().find(|stats| number(stats.address) == backend).expect("it is in the pool");
        if is_out(&picked) && picked.health != HealthState::Probation && 2 * out <= all.len() {
            self.story.bad_picks += 1;
        }
    }

    fn follow(&mut self, ticket: Ticket, arrival: Arrival) {
        let Arrival::Ends(outcome, after) = arrival else { return };
        let one = self.tries.get_mut(&ticket).expect("it is at a backend");
        one.outcome = outcome;
        let life = self.backends[one.backend].life;
        let is_refused = outcome == Outcome::Failure(Failure::Refused);
        let event = if is_refused { Event::Learn { ticket } } else { Event::Serve { ticket, life } };
        self.schedule(self.now + after, event);
    }

    /// A backend is done with a try, whether anybody still waits for it or not.
    fn served(&mut self, ticket: Ticket, life: u64) {
        let backend = self.tries[&ticket].backend;
        if self.backends[backend].life != life {
            self.tries.get_mut(&ticket).expect("it was there").outcome = Outcome::Failure(Failure::Broken);
            return self.learn(ticket);
        }
        if self.backends[backend].ill == Ill::Hung {
            // The process stands still; it goes on where it was.
            return self.schedule(self.now + MS, Event::Serve { ticket, life });
        }
        self.backends[backend].leave();
        self.learn(ticket);
        self.serve_line(backend);
    }

    fn serve_line(&mut self, backend: usize) {
        while let Some((ticket, arrival)) = self.backends[backend].next() {
            self.follow(ticket, arrival);
        }
    }

    fn learn(&mut self, ticket: Ticket) {
        let now = self.instant();
        let Try { request, attempt, outcome, .. } = self.tries.remove(&ticket).expect("it ends once");
        let Some(journey) = self.journeys.get_mut(&request) else { return };
        // A try that was stopped has no pick any more.
        let Some(pick) = journey.picks.remove(&attempt) else { return };
        pick.finish(outcome, now);
        journey.last = Some(outcome);
        journey.exchange.ended(&self.requests, attempt, outcome, now);
        self.go_on(request);
    }

    fn befall(&mut self, number: usize) {
        let (_, backend, ill) = self.plan.faults[number];
        if ill == Ill::Crashed {
            for ticket in self.backends[backend].crash() {
                self.tries.get_mut(&ticket).expect("it waits there").outcome = Outcome::Failure(Failure::Broken);
                self.schedule(self.now, Event::Learn { ticket });
            }
        } else {
            self.backends[backend].ill = ill;
            self.serve_line(backend);
        }
    }

    /// Notes who goes out and who comes back.
    fn watch(&mut self) {
        for stats in self.balancer.backends() {
            let at = number(stats.address);
            let is_out = matches!(stats.state, BackendState::Ejected | BackendState::Down);
            match (is_out, self.out_since[at]) {
                (true, None) => self.out_since[at] = Some(self.now),
                (false, Some(since)) => {
                    self.out_since[at] = None;
                    self.story.out[at].push((since, self.now));
                }
                _ => {}
            }
        }
    }

    fn tell(mut self) -> Story {
        self.story.seen = self.backends.iter().map(|backend| backend.seen).collect();
        self.story.unfinished = self.journeys.len();
        for (at, since) in self.out_since.iter().enumerate() {
            self.story.out[at].extend(since.map(|since| (since, self.now)));
        }
        let in_flight: usize = self.journeys.values().map(|journey| journey.picks.len()).sum();
        let counted: usize = self.balancer.backends().iter().map(|backend| backend.in_flight).sum();
        assert_eq!(counted, in_flight, "what is in flight");
        self.story
    }
}
