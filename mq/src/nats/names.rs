//! How a queue's parts are called on the server.
//!
//! | part | name |
//! |---|---|
//! | stream of the messages | `NAME` |
//! | a lane: one priority, or some of the keys | subjects `mq.NAME.now.pN` and `mq.NAME.now.kN` |
//! | messages whose time has not come | subject `mq.NAME.later` |
//! | a group's consumer of a lane | `GROUP=pN` and `GROUP=kN`, with `~` for `.` in the group |
//! | who moves what has come due | consumer `=later` |
//! | stream of the dead letters | `NAME-dead`, subjects `mq.NAME.dead.GROUP.ID` |
//! | stream of the advisories of exhausted attempts | `NAME-events`, consumer `=undertaker` |

use crate::hash::Sip;
use crate::{GroupError, MessageId};

/// The consumer of delayed messages; a group's name is never empty.
pub(super) const LATER: &str = "=later";
/// The consumer of advisories.
pub(super) const UNDERTAKER: &str = "=undertaker";

/// With the stream's it must fit into 255 bytes.
const MAX_GROUP: usize = 200;

/// Names of one queue.
#[derive(Clone, Debug)]
pub(super) struct Names {
    pub(super) stream: String,
    priorities: u8,
    key_lanes: u16,
}

impl Names {
    pub(super) fn new(stream: &str, priorities: u8, key_lanes: u16) -> Self {
        Self { stream: stream.to_owned(), priorities, key_lanes }
    }

    /// The lanes, the highest priority first, those of keys last.
    pub(super) fn lanes(&self) -> impl Iterator<Item = String> {
        let priorities = (0..self.priorities).rev().map(|priority| format!("p{priority}"));
        priorities.chain((0..self.key_lanes).map(|lane| format!("k{lane}")))
    }

    /// The lane of a priority, or of a key. The same key always has the same lane, whoever sends.
    pub(super) fn lane(&self, priority: u8, key: Option<&[u8]>) -> String {
        match key {
            Some(key) => format!("k{}", Sip::new([0, 0]).hash(key) % u128::from(self.key_lanes.max(1))),
            None => format!("p{priority}"),
        }
    }

    pub(super) fn subject(&self, lane: &str) -> String {
        format!("mq.{}.now.{lane}", self.stream)
    }

    pub(super) fn all_lanes(&self) -> String {
        format!("mq.{}.now.*", self.stream)
    }

    pub(super) fn later(&self) -> String {
        format!("mq.{}.later", self.stream)
    }

    pub(super) fn dead_stream(&self) -> String {
        format!("{}-dead", self.stream)
    }

    pub(super) fn dead_letters(&self, group: &str) -> String {
        format!("mq.{}.dead.{}.*", self.stream, token(group))
    }

    pub(super) fn dead_letter(&self, group: &str, id: MessageId) -> String {
        format!("mq.{}.dead.{}.{id}", self.stream, token(group))
    }

    pub(super) fn all_dead(&self) -> String {
        format!("mq.{}.dead.*.*", self.stream)
    }

    pub(super) fn events_stream(&self) -> String {
        format!("{}-events", self.stream)
    }

    pub(super) fn events(&self) -> String {
        format!("$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.{}.*", self.stream)
    }

    pub(super) fn consumer(&self, group: &str, lane: &str) -> String {
        format!("{}={lane}", token(group))
    }
}

/// Dots separate the parts of a subject.
fn token(group: &str) -> String {
    group.replace('.', "~")
}

/// The group of a consumer; `None` if it is of no group.
pub(super) fn group_of(consumer: &str) -> Option<String> {
    let (group, _) = consumer.split_once('=')?;
    (!group.is_empty()).then(|| group.replace('~', "."))
}

pub(super) fn check_group(name: &str) -> Result<(), GroupError> {
    if name.len() > MAX_GROUP {
        return Err(GroupError::Name);
    }
    crate::group::check_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_read_back_from_consumers() {
        let names = Names::new("q", 2, 1);
        assert_eq!(names.lanes().collect::<Vec<_>>(), ["p1", "p0", "k0"]);
        for group in ["default", "a.b-c_d", "..."] {
            assert_eq!(group_of(&names.consumer(group, "p0")).as_deref(), Some(group));
        }
        assert_eq!(group_of(LATER), None);
    }

    #[test]
    fn a_key_keeps_its_lane() {
        let names = Names::new("q", 1, 4);
        let lanes: Vec<_> = (0..100_u8).map(|key| names.lane(0, Some(&[key]))).collect();
        assert_eq!(lanes, (0..100_u8).map(|key| names.lane(0, Some(&[key]))).collect::<Vec<_>>());
        for lane in ["k0", "k1", "k2", "k3"] {
            assert!(lanes.iter().filter(|other| *other == lane).count() > 10, "{lane}");
        }
    }
}
