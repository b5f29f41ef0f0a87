//! What rung 10 tries on a queue and its workers: each trial gets running systems, one with what it is about and one
//! without, and returns claims with both figures.

mod crash;
mod policies;
mod scale;
mod surge;
mod switched_off;

pub use crash::{Crashed, crash, crash_claims, use_case_claims};
pub use policies::policies;
pub use scale::{Redelivered, drain, drain_claim, poison, redelivered_claims, worker_dies};
pub use surge::{Surge, bounded, bounded_claim, surge, surge_claims, surge_table};
pub use switched_off::{SwitchedOff, switched_off, switched_off_claims};
