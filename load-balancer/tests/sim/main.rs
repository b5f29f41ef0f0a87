//! The whole balancer on virtual time: pool, pickers, health, retries and hedges against backends that crash, hang, slow
//! down, fail and flap. Everything follows from a seed; what runs is what a host runs, only the clock and the network
//! are made up.

mod backend;
mod faults;
mod properties;
mod storm;
mod world;
