//! Groups: each gets every message.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use crate::admin::Pause;
use crate::delivery::Received;
use crate::shared::Shared;
use crate::state::GroupId;
use crate::{Consumer, DeadLetter, GroupError, GroupStats, MessageId};

/// The name of the group that every queue begins with.
pub const DEFAULT_GROUP: &str = "default";

/// In the place of a default group that was removed: no group has this id.
pub(crate) const NO_GROUP: GroupId = GroupId(u32::MAX);

/// The longest name of a group, in bytes.
pub(crate) const MAX_NAME: usize = 255;

/// Where a group begins, or is set to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// With the oldest message that there is.
    #[default]
    Earliest,
    /// With the next one to be sent.
    Latest,
    /// With this one, or the first behind it that there is.
    At(MessageId),
    /// With the first that was sent at this time or later. Some earlier ones may come, too, for times are remembered
    /// roughly: those of the second before, or of the 4096 messages before.
    Since(SystemTime),
}

/// A group: consumers that share the messages, with a position of their own. Every group gets every message; within a
/// group a message goes to one consumer. Bodies are kept once for all groups, until the last is done with them.
///
/// The handle names the group and does not keep it: after [`Queue::remove_group`](crate::Queue::remove_group) its calls
/// fail.
#[derive(Clone)]
pub struct Group {
    pub(crate) shared: Arc<Shared>,
    pub(crate) id: GroupId,
}

impl Group {
    /// One more consumer of it.
    pub fn consumer(&self) -> Consumer {
        Consumer::new(Arc::clone(&self.shared), self.id)
    }

    /// Sets the group back, to deliver messages again that it was done with, as far as they are still there
    /// ([`Config::retention`](crate::Config::retention), or another group that has not done with them), or forward, to
    /// skip some. Leases and attempts of the messages it moves over are void.
    ///
    /// # Errors
    /// If there is no such group any more, or the queue is closed or failed.
    pub fn seek(&self, start: Start) -> Result<(), GroupError> {
        self.shared.seek(self.id, start)
    }

    /// Stops deliveries. What was delivered may still be settled. It outlives a restart.
    ///
    /// # Errors
    /// As of [`Group::seek`].
    pub fn pause(&self) -> Result<(), GroupError> {
        self.shared.pause(self.id, Pause::Pause)
    }

    /// Starts deliveries again.
    ///
    /// # Errors
    /// As of [`Group::seek`].
    pub fn resume(&self) -> Result<(), GroupError> {
        self.shared.pause(self.id, Pause::Resume)
    }

    /// Done with everything that was sent so far, delayed or on lease; dead letters stay. Returns how many messages that
    /// were.
    ///
    /// # Errors
    /// As of [`Group::seek`].
    pub fn purge(&self) -> Result<u64, GroupError> {
        self.shared.purge(self.id)
    }

    /// Forgets all dead letters; how many.
    ///
    /// # Errors
    /// As of [`Group::seek`].
    pub fn purge_dead_letters(&self) -> Result<u64, GroupError> {
        self.shared.purge_dead(self.id)
    }

    /// The first messages that could be delivered, up to `max`, without delivering them; looks at no more than the first
    /// 10,000 that the group is not done with. Their attempt is how often they were delivered so far. One whose bytes cannot
    /// be read is left out: whoever receives it is told.
    ///
    /// # Errors
    /// As of [`Group::seek`].
    pub fn peek(&self, max: usize) -> Result<Vec<Received>, GroupError> {
        self.shared.peek(self.id, max)
    }

    /// Up to `max` of the dead letters, the oldest first.
    ///
    /// # Errors
    /// As of [`Group::seek`].
    pub fn dead_letters(&self, max: usize) -> Result<Vec<DeadLetter>, GroupError> {
        self.shared.dead_letters(self.id, max)
    }

    /// Delivers a dead letter again, its attempts counted anew. `false` if it is none.
    ///
    /// # Errors
    /// As of [`Group::seek`].
    pub fn requeue(&self, id: MessageId) -> Result<bool, GroupError> {
        self.shared.requeue(self.id, id)
    }

    /// Forgets a dead letter. `false` if it is none.
    ///
    /// # Errors
    /// As of [`Group::seek`].
    pub fn discard(&self, id: MessageId) -> Result<bool, GroupError> {
        self.shared.discard(self.id, id)
    }

    /// What it has before it and behind it.
    ///
    /// # Errors
    /// [`GroupError::Unknown`] if there is no such group any more.
    pub fn stats(&self) -> Result<GroupStats, GroupError> {
        self.shared.group_stats(self.id).ok_or(GroupError::Unknown)
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Names go into file formats and other brokers' names.
pub(crate) fn check_name(name: &str) -> Result<(), GroupError> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(is_allowed) {
        return Err(GroupError::Name);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for name in ["a", "Billing.v2_x-1", &"n".repeat(255)] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        for name in ["", "a b", "a/b", "ä", &"n".repeat(256)] {
            assert_eq!(check_name(name), Err(GroupError::Name), "{name}");
        }
    }
}
