//! What rung 05 tries on a replicated database: each trial gets running systems and returns claims with the figure of a
//! negative control.

mod death;
mod lag;
mod roles;
mod scale;

use tenfold_rig::{Bytes, Request, header};

pub use death::{Death, death_claims, death_table, primary_dies, replica_claim, replica_dies};
pub use lag::{Lag, lag, lag_claims, lag_table};
pub use roles::roles;
pub use scale::{Scaled, scale_claims, scale_table, small};

use crate::user::{User, UserId};

/// `PUT /users/{id}` with the sample user.
pub fn write(id: u64) -> Request {
    let json = serde_json::to_vec(&User::sample(UserId(id))).expect("a user has a JSON form");
    let json_type = header::HeaderValue::from_static("application/json");
    Request::put(format!("/users/{id}"), Bytes::from(json)).key(id).header(header::CONTENT_TYPE, json_type)
}
