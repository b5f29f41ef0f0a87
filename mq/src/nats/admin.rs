//! Counts and purges.

use serde_json::{Value, json};

use super::Nats;
use super::failure::ApiError;
use super::names::LATER;
use crate::{GroupStats, Stats};

impl Nats {
    pub(super) async fn count(&self) -> Result<Stats, ApiError> {
        let info = self.api(&format!("STREAM.INFO.{}", self.names.stream), &json!({})).await?;
        let state = |name: &str| info["state"][name].as_u64().unwrap_or(0);
        let later = self.consumer_info(LATER).await?;
        let delayed = number(&later, "num_pending") + number(&later, "num_ack_pending");
        let mut stats = Stats {
            messages: state("messages"),
            message_bytes: state("bytes"),
            disk_bytes: state("bytes"),
            ..Stats::default()
        };
        for name in self.list_groups().await? {
            stats.groups.push(self.count_group(name, delayed).await?);
        }
        Ok(stats)
    }

    async fn count_group(&self, name: String, delayed: u64) -> Result<GroupStats, ApiError> {
        let mut group = GroupStats { delayed, dead: self.count_dead(&name).await?, ..GroupStats::default() };
        for lane in self.names.lanes() {
            let info = self.consumer_info(&self.names.consumer(&name, &lane)).await?;
            group.ready += number(&info, "num_pending");
            group.leased += number(&info, "num_ack_pending");
            group.waiting += number(&info, "num_waiting");
        }
        group.name = name;
        Ok(group)
    }

    pub(super) async fn purge_everything(&self) -> Result<u64, ApiError> {
        let purged = self.purge_stream(&self.names.stream).await?;
        self.purge_stream(&self.names.events_stream()).await?;
        self.leases.lock().clear();
        Ok(purged)
    }
}

fn number(info: &Value, name: &str) -> u64 {
    info[name].as_u64().unwrap_or(0)
}
