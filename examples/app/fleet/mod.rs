//! What rung 04 tries on web servers behind a load balancer: each trial gets running systems, one with what it is about
//! and one without, and returns claims with both figures.

mod change;
mod faults;
mod island;
mod private;
mod site;
mod spread;

pub use change::{Change, change, change_claims};
pub use faults::{Fault, Pair, Struck, fault_claims, fault_table, strike};
pub use island::{Island, client, explore, island_claim};
pub use private::private;
pub use site::{Fleet, Operator, Plan, Setup};
pub use spread::{Spread, spread, spread_claims};
