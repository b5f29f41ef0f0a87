//! What queueing theory says a topology can carry, so that a measurement can be doubted by its own report.
//!
//! A node with `c` slots, exponential service times and Poisson arrivals is the queue M/M/c, first come first served.
//! Everything about it is known in closed form. Nodes in a row stay that simple: the departures of an M/M/c queue are
//! again Poisson, so the next node is an M/M/c queue of its own, and for two nodes the times spent in them are
//! independent. A request's latency is then the sum of two independent times, which a convolution gives.
//!
//! What the model leaves out makes a real system slower, never faster: sockets, timers, the processors themselves. A
//! measurement well above it, or far below, is therefore a fault of the harness.
//!
//! # Source
//! Erlang, Solution of some problems in the theory of probabilities of significance in automatic telephone exchanges,
//! 1917 (the wait probability). Burke, The output of a queuing system, 1956 (departures are Poisson), and The output
//! process of a stationary M/M/s queueing system, 1968 (independent times for two nodes). Kleinrock, Queueing Systems,
//! volume 1, 1975, sections 3.5 and 5.

mod erlang;
mod network;

pub use erlang::Mmc;
pub use network::{Network, NetworkError, Quantiles, StationId};

#[cfg(test)]
mod tests;
