//! A user, as the API shows it and as the store keeps it.

use serde::{Deserialize, Serialize};

/// The id of a user; ids start at 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UserId(pub u64);

impl std::fmt::Display for UserId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The four fields that `GET /users/{id}` returns, in the order in which it returns them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct User {
    /// Who it is.
    pub id: UserId,
    /// One to 64 characters.
    pub first_name: String,
    /// One to 64 characters.
    pub last_name: String,
    /// Three to 32 characters.
    pub phone: String,
}

/// A user and the number of the write that made it so.
///
/// The version travels in the `ETag` header, so the JSON keeps its four fields and a client that counts writes can
/// still tell a stale answer from a fresh one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Versioned {
    /// Starts at 1 and grows by one with each acknowledged write.
    pub version: u64,
    /// The user at that version.
    pub user: User,
}

impl Versioned {
    /// Bytes that the record takes in a cache: its text and its fixed-size parts.
    pub fn weight(&self) -> u64 {
        let text = self.user.first_name.len() + self.user.last_name.len() + self.user.phone.len();
        (text + size_of::<Self>()) as u64
    }
}

const FIRST_NAMES: [&str; 8] = ["Ada", "Alan", "Barbara", "Edsger", "Grace", "John", "Leslie", "Radia"];
const LAST_NAMES: [&str; 8] = ["Dijkstra", "Hopper", "Lamport", "Liskov", "Lovelace", "Perlman", "Smith", "Turing"];

impl User {
    /// The user that a fresh database holds under `id`. User 123 is John Smith, whom the transcript of rung 01 asks for.
    pub fn sample(id: UserId) -> Self {
        let (first, last) = if id.0 == 123 {
            ("John", "Smith")
        } else {
            let pick = id.0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (FIRST_NAMES[(pick >> 61) as usize], LAST_NAMES[(pick >> 58) as usize & 7])
        };
        Self {
            id,
            first_name: first.to_owned(),
            last_name: last.to_owned(),
            phone: format!("212 555-{:04}", id.0 % 10_000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_the_four_fields_in_order() {
        let json = serde_json::to_string(&User::sample(UserId(123))).unwrap();
        assert_eq!(json, r#"{"id":123,"firstName":"John","lastName":"Smith","phone":"212 555-0123"}"#);
        assert_eq!(serde_json::from_str::<User>(&json).unwrap(), User::sample(UserId(123)));
    }

    #[test]
    fn unknown_fields_are_refused() {
        let json = r#"{"id":1,"firstName":"a","lastName":"b","phone":"123","admin":true}"#;
        assert!(serde_json::from_str::<User>(json).is_err());
    }
}
