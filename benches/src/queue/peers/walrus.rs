//! walrus, a log with a cursor a topic. It puts its files below a folder that only the environment can name: see
//! [`WALRUS_FOLDER`](super::super::contest::WALRUS_FOLDER).

use bytes::Bytes;
use walrus_rust::{FsyncSchedule, ReadConsistency, Walrus};

use super::super::{Outcome, Policy, Queue, Sender, Setting, Taker, Trouble};

const TOPIC: &str = "queue";

struct Cursor(Walrus);

pub(super) fn open(setting: &Setting<'_>) -> Result<Box<dyn Queue>, Trouble> {
    let is_synced = setting.sync == Policy::Always;
    let schedule = if is_synced { FsyncSchedule::SyncEach } else { FsyncSchedule::Milliseconds(1_000) };
    let consistency =
        if is_synced { ReadConsistency::StrictlyAtOnce } else { ReadConsistency::AtLeastOnce { persist_every: 1_000 } };
    let key = setting.folder.file_name().ok_or("the folder has no name")?.to_string_lossy().into_owned();
    Ok(Box::new(Cursor(Walrus::with_consistency_and_schedule_for_key(&key, consistency, schedule)?)))
}

impl Queue for Cursor {
    fn sender(&self) -> Option<Box<dyn Sender + '_>> {
        Some(Box::new(&self.0))
    }

    fn taker(&self) -> Option<Box<dyn Taker + '_>> {
        Some(Box::new(&self.0))
    }
}

impl Sender for &Walrus {
    fn send(&mut self, body: &Bytes) -> Outcome {
        Ok(self.append_for_topic(TOPIC, body)?)
    }

    fn send_batch(&mut self, bodies: &[Bytes]) -> Result<bool, Trouble> {
        let bodies: Vec<&[u8]> = bodies.iter().map(Bytes::as_ref).collect();
        self.batch_append_for_topic(TOPIC, &bodies)?;
        Ok(true)
    }
}

impl Taker for &Walrus {
    fn take(&mut self, _: usize, look: &mut dyn FnMut(&[u8])) -> Result<usize, Trouble> {
        let Some(entry) = self.read_next(TOPIC, true)? else { return Ok(0) };
        look(&entry.data);
        Ok(1)
    }
}
