//! What becomes of deliveries: words to where the delivery said (`+ACK`, `-NAK`, `+WPI`, `+TERM`).

use std::time::Duration;

use async_nats::Subject;
use bytes::Bytes;

use super::failure::{self, ApiError};
use super::groups::nanos;
use super::leases::Lease;
use super::{Nats, wire};
use crate::state::kept_part;
use crate::{DeadReason, Receipt, SettleError};

impl Nats {
    pub(super) async fn ack_one(&self, receipt: Receipt) -> Result<(), SettleError> {
        let lease = self.claim(receipt)?;
        Ok(self.reply(&lease.reply, "+ACK").await?)
    }

    /// Waits until the server has taken the ack.
    pub(super) async fn ack_confirmed(&self, receipt: Receipt) -> Result<(), SettleError> {
        let lease = self.claim(receipt)?;
        self.confirmed_or_put_back(receipt, lease, "+ACK").await
    }

    pub(super) async fn nack_one(&self, receipt: Receipt, delay: Duration) -> Result<(), SettleError> {
        let lease = self.claim(receipt)?;
        if lease.attempt >= self.config.queue.max_attempts {
            return self.bury_leased(receipt, lease, &DeadReason::Attempts).await;
        }
        let word = if delay.is_zero() { "-NAK".to_owned() } else { nak(delay) };
        Ok(self.reply(&lease.reply, word).await?)
    }

    pub(super) async fn extend_one(&self, receipt: Receipt, lease: Duration) -> Result<(), SettleError> {
        self.check_receipt(receipt)?;
        if lease > self.config.queue.lease {
            return Err(SettleError::Unsupported("a lease longer than the queue's"));
        }
        let now = self.now();
        let reply = {
            let mut leases = self.leases.lock();
            let known = leases.find(receipt, now)?;
            known.until = now.saturating_add(self.config.queue.lease);
            known.reply.clone()
        };
        Ok(self.reply(&reply, "+WPI").await?)
    }

    pub(super) async fn reject(&self, receipt: Receipt, reason: &str) -> Result<(), SettleError> {
        let lease = self.claim(receipt)?;
        self.bury_leased(receipt, lease, &DeadReason::Rejected(kept_part(reason).to_owned())).await
    }

    async fn bury_leased(&self, receipt: Receipt, lease: Lease, reason: &DeadReason) -> Result<(), SettleError> {
        let buried = self.bury_stored(receipt.group, receipt.id, &lease, reason).await;
        if let Err(error) = buried {
            self.leases.lock().put_back(receipt, lease);
            return Err(error.into());
        }
        self.confirmed_or_put_back(receipt, lease, "+TERM").await
    }

    async fn bury_stored(
        &self,
        group: u32,
        id: crate::MessageId,
        lease: &Lease,
        reason: &DeadReason,
    ) -> Result<(), ApiError> {
        let group = self.group_name(group).ok_or(ApiError::CONSUMER_NOT_FOUND)?;
        // Purged meanwhile: nothing is left to bury.
        let Some(stored) = self.stored(&self.names.stream, lease.sequence, None).await? else { return Ok(()) };
        self.bury(&group, id, reason, lease.attempt, &stored.headers, stored.payload).await
    }

    async fn confirmed_or_put_back(
        &self,
        receipt: Receipt,
        lease: Lease,
        word: &'static str,
    ) -> Result<(), SettleError> {
        match self.request(lease.reply.to_string(), None, Bytes::from_static(word.as_bytes())).await {
            Ok(_) => Ok(()),
            Err(failure) => {
                self.leases.lock().put_back(receipt, lease);
                Err(SettleError::Failed(failure))
            }
        }
    }

    fn claim(&self, receipt: Receipt) -> Result<Lease, SettleError> {
        self.check_receipt(receipt)?;
        self.leases.lock().take(receipt, self.now())
    }

    fn check_receipt(&self, receipt: Receipt) -> Result<(), SettleError> {
        if receipt.queue != self.identity {
            return Err(SettleError::OtherQueue);
        }
        if self.is_closed() {
            return Err(SettleError::Closed);
        }
        Ok(())
    }

    fn group_name(&self, index: u32) -> Option<String> {
        self.indices.lock().iter().find(|(_, known)| **known == index).map(|(name, _)| name.clone())
    }

    pub(super) async fn reply(&self, to: &Subject, word: impl Into<Bytes>) -> Result<(), ApiError> {
        self.client.publish(to.clone(), word.into()).await.map_err(|_| failure::closed().into())
    }
}

/// Not before this much time has passed.
pub(super) fn nak(delay: Duration) -> String {
    format!(r#"-NAK {{"delay":{}}}"#, nanos(delay).max(1))
}

/// How long until then.
pub(super) fn time_to(ms: u64, wall: std::time::SystemTime) -> Duration {
    Duration::from_millis(ms.saturating_sub(wire::millis(wall)))
}
