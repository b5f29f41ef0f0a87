//! yaque, a queue of segments that never syncs.

use bytes::Bytes;
use parking_lot::Mutex;
use yaque::{Receiver, TryRecvError};

use super::super::{Outcome, Queue, Sender, Setting, Taker, Trouble};

struct Yaque {
    sender: Mutex<yaque::Sender>,
    receiver: Mutex<Receiver>,
}

pub(super) fn open(setting: &Setting<'_>) -> Result<Box<dyn Queue>, Trouble> {
    let (sender, receiver) = yaque::channel(setting.folder.join("queue"))?;
    Ok(Box::new(Yaque { sender: Mutex::new(sender), receiver: Mutex::new(receiver) }))
}

impl Queue for Yaque {
    fn sender(&self) -> Option<Box<dyn Sender + '_>> {
        Some(Box::new(self))
    }

    fn taker(&self) -> Option<Box<dyn Taker + '_>> {
        Some(Box::new(self))
    }
}

impl Sender for &Yaque {
    fn send(&mut self, body: &Bytes) -> Outcome {
        self.sender.lock().try_send(body).map_err(|error| format!("{error:?}").into())
    }

    fn send_batch(&mut self, bodies: &[Bytes]) -> Result<bool, Trouble> {
        self.sender.lock().try_send_batch(bodies).map_err(|error| format!("{error:?}"))?;
        Ok(true)
    }
}

impl Taker for &Yaque {
    fn take(&mut self, _: usize, look: &mut dyn FnMut(&[u8])) -> Result<usize, Trouble> {
        let mut receiver = self.receiver.lock();
        let guard = match receiver.try_recv() {
            Ok(guard) => guard,
            Err(TryRecvError::QueueEmpty) => return Ok(0),
            Err(error) => return Err(format!("{error:?}").into()),
        };
        look(&guard);
        guard.commit()?;
        Ok(1)
    }
}
