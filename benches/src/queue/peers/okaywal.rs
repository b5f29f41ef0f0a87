//! okaywal, a log and no queue: nothing can be taken from it.

use bytes::Bytes;
use okaywal::{LogVoid, WriteAheadLog};

use super::super::{Outcome, Queue, Sender, Setting, Trouble};

struct OkayWal(WriteAheadLog);

pub(super) fn open(setting: &Setting<'_>) -> Result<Box<dyn Queue>, Trouble> {
    Ok(Box::new(OkayWal(WriteAheadLog::recover(setting.folder.join("log"), LogVoid)?)))
}

impl Queue for OkayWal {
    fn sender(&self) -> Option<Box<dyn Sender + '_>> {
        Some(Box::new(&self.0))
    }
}

impl Sender for &WriteAheadLog {
    fn send(&mut self, body: &Bytes) -> Outcome {
        let mut entry = self.begin_entry()?;
        entry.write_chunk(body)?;
        entry.commit()?;
        Ok(())
    }

    fn send_batch(&mut self, bodies: &[Bytes]) -> Result<bool, Trouble> {
        let mut entry = self.begin_entry()?;
        bodies.iter().try_for_each(|body| entry.write_chunk(body).map(drop))?;
        entry.commit()?;
        Ok(true)
    }
}
