//! What rung 06 tries on a cache layer: each trial gets running systems, one with what it is about and one without, and
//! returns claims with both figures.

mod expiry;
mod flood;
mod loss;
mod memory;
mod oracle;
mod policies;
mod runs;
mod share;
mod site;
mod strategies;
mod sweep;

pub use expiry::mass_expiry;
pub use flood::flood;
pub use loss::{Loss, lose_a_server, lost};
pub use memory::{Hoard, Peak, hoard, memory, router as hoard_router};
pub use oracle::{Oracle, forced_race, oracle, stale};
pub use policies::policies;
pub use runs::{Findings, freshness, memory_and_policies, strategies};
pub use share::{Share, share, share_claims};
pub use site::{Setup, Site};
pub use strategies::{Profile, profile, strategy_table};
pub use sweep::{Sweep, sweep, sweep_table};
