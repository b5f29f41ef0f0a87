//! The claim to a delivery, as plain data.

use std::fmt;
use std::str::FromStr;

use crate::MessageId;

/// Says which delivery of which message in which group of which queue one has: what [`Delivery`](crate::Delivery) acks
/// by, apart from it.
///
/// It can be printed, stored and read back, so that a worker may ack from another thread or after a restart of its own. It is not
/// believed: the queue compares all of it with what it knows. If the lease ran out and the message went to somebody
/// else, the delivery's number is another, and the old receipt is refused as stale (a *fencing token*). Leases end with the
/// queue's process, so a receipt from before it was opened is stale, too: its first part names the queue and the opening.
///
/// # Examples
/// ```
/// use tenfold_mq::Receipt;
///
/// let receipt: Receipt = "00000000000000ab-0-17-2".parse()?;
/// assert_eq!((receipt.id().get(), receipt.delivery()), (17, 2));
/// assert_eq!(receipt.to_string(), "00000000000000ab-0-17-2");
/// # Ok::<(), tenfold_mq::ParseReceiptError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Receipt {
    pub(crate) queue: u64,
    pub(crate) group: u32,
    pub(crate) id: MessageId,
    pub(crate) delivery: u32,
}

impl Receipt {
    /// Of which message.
    pub const fn id(&self) -> MessageId {
        self.id
    }

    /// Which delivery of it in its group: never the same for two and never lower than before, as long as the queue is open.
    pub const fn delivery(&self) -> u32 {
        self.delivery
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}-{}-{}", self.queue, self.group, self.id, self.delivery)
    }
}

impl FromStr for Receipt {
    type Err = ParseReceiptError;

    fn from_str(text: &str) -> Result<Self, ParseReceiptError> {
        let mut parts = text.split('-');
        let mut next = || parts.next().ok_or(ParseReceiptError);
        let receipt = Self {
            queue: u64::from_str_radix(next()?, 16).map_err(|_| ParseReceiptError)?,
            group: next()?.parse().map_err(|_| ParseReceiptError)?,
            id: next()?.parse().map_err(|_| ParseReceiptError)?,
            delivery: next()?.parse().map_err(|_| ParseReceiptError)?,
        };
        if parts.next().is_some() { Err(ParseReceiptError) } else { Ok(receipt) }
    }
}

/// A text that is no receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no receipt of the form QUEUE-GROUP-ID-DELIVERY")]
pub struct ParseReceiptError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_and_refuses_nonsense() {
        let receipt = Receipt { queue: u64::MAX, group: 3, id: MessageId::new(7), delivery: u32::MAX };
        assert_eq!(receipt.to_string().parse(), Ok(receipt));
        for text in ["", "a-0-1", "a-0-1-1-1", "g-0-1-1", "a-0-1-4294967296", "a--1-1"] {
            assert_eq!(text.parse::<Receipt>(), Err(ParseReceiptError), "{text}");
        }
    }
}
