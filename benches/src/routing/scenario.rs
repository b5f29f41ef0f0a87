//! What is measured.

use std::str::FromStr;

/// A kind of run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// `select 1`, all processes on one core.
    Select,
    /// What goes over the wire for a statement.
    Wire,
    /// Choosing a node and checking a connection out.
    CheckOut,
    /// How old what is known of replicas is.
    Age,
    /// Reads of sessions, checked.
    Reads,
    /// Servers that are lost, hang or change places.
    Faults,
    /// How fast there are servers.
    Up,
}

/// A name that stands for no scenario.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no scenario is called `{name}`; there are select, wire, check-out, age, reads, faults, up, all")]
pub struct UnknownScenario {
    name: String,
}

impl Scenario {
    /// All, in the order in which they are run.
    pub const ALL: [Self; 7] =
        [Self::Select, Self::Wire, Self::CheckOut, Self::Age, Self::Reads, Self::Faults, Self::Up];

    /// The name on the command line and in rows.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Select => "select",
            Self::Wire => "wire",
            Self::CheckOut => "check-out",
            Self::Age => "age",
            Self::Reads => "reads",
            Self::Faults => "faults",
            Self::Up => "up",
        }
    }
}

impl FromStr for Scenario {
    type Err = UnknownScenario;

    fn from_str(name: &str) -> Result<Self, UnknownScenario> {
        let found = Self::ALL.into_iter().find(|scenario| scenario.name() == name);
        found.ok_or_else(|| UnknownScenario { name: name.to_owned() })
    }
}
