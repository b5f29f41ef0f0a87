//! queue-file, a queue in one file that grows.

use bytes::Bytes;
use parking_lot::Mutex;
use queue_file::QueueFile;

use super::super::{Outcome, Policy, Queue, Sender, Setting, Taker, Trouble};

struct InFile(Mutex<QueueFile>);

pub(super) fn open(setting: &Setting<'_>) -> Result<Box<dyn Queue>, Trouble> {
    let mut file = QueueFile::open(setting.folder.join("queue"))?;
    file.set_sync_writes(setting.sync == Policy::Always);
    Ok(Box::new(InFile(Mutex::new(file))))
}

impl Queue for InFile {
    fn sender(&self) -> Option<Box<dyn Sender + '_>> {
        Some(Box::new(&self.0))
    }

    fn taker(&self) -> Option<Box<dyn Taker + '_>> {
        Some(Box::new(&self.0))
    }

    fn held(&self) -> Result<Option<u64>, Trouble> {
        Ok(Some(self.0.lock().size() as u64))
    }
}

impl Sender for &Mutex<QueueFile> {
    fn send(&mut self, body: &Bytes) -> Outcome {
        Ok(self.lock().add(body)?)
    }

    fn send_batch(&mut self, bodies: &[Bytes]) -> Result<bool, Trouble> {
        self.lock().add_n(bodies)?;
        Ok(true)
    }
}

impl Taker for &Mutex<QueueFile> {
    fn take(&mut self, _: usize, look: &mut dyn FnMut(&[u8])) -> Result<usize, Trouble> {
        // Held over both: with the message taken and not removed, another would take it as well.
        let mut file = self.lock();
        let Some(body) = file.peek()? else { return Ok(0) };
        look(&body);
        file.remove()?;
        Ok(1)
    }
}
