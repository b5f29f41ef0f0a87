use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::Wake;

use super::*;
use crate::discover::testing::{backend, backends, now};

fn insert(host: u8) -> Change {
    Change::Insert(backend(host))
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

fn poll<F: Future + Unpin>(future: &mut F, count: &Arc<Count>) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(&Waker::from(Arc::clone(count))))
}

#[test]
fn refuses_what_does_not_fit_and_gives_it_back() {
    let (sender, mut source) = channel(2);
    sender.try_send(insert(1)).unwrap();
    sender.try_send(insert(2)).unwrap();
    assert_eq!(sender.try_send(insert(3)), Err(TrySendError::Full(insert(3))));
    assert_eq!(now(source.next_change()).unwrap().unwrap().unwrap(), insert(1));
    sender.try_send(insert(3)).unwrap();
    drop(source);
    assert_eq!(sender.try_send(insert(4)).unwrap_err().into_change(), insert(4));
    assert_eq!(now(sender.send(insert(5))), Some(Err(SendError(insert(5)))));
}

#[test]
fn a_replacement_takes_the_place_of_what_waits() {
    let (sender, mut source) = channel(1);
    sender.try_send(insert(1)).unwrap();
    sender.try_send(Change::Replace(backends(&[2, 3]))).unwrap();
    assert_eq!(now(source.next_change()).unwrap().unwrap().unwrap(), Change::Replace(backends(&[2, 3])));
    assert!(now(source.next_change()).is_none(), "nothing waits");
}

#[test]
fn ends_when_the_last_sender_is_gone_and_all_is_taken() {
    let (sender, mut source) = channel(2);
    let other = sender.clone();
    drop(sender);
    other.try_send(insert(1)).unwrap();
    drop(other);
    assert!(now(source.next_change()).unwrap().is_some());
    assert!(now(source.next_change()).unwrap().is_none());
}

#[test]
fn a_waiting_sender_is_woken_by_room_and_by_the_end() {
    let (sender, mut source) = channel(1);
    sender.try_send(insert(1)).unwrap();
    let (first, second) = (Arc::new(Count::default()), Arc::new(Count::default()));
    let mut sending = sender.send(insert(2));
    let mut dropped = sender.send(insert(3));
    assert!(poll(&mut sending, &first).is_pending());
    assert!(poll(&mut sending, &first).is_pending());
    assert!(poll(&mut dropped, &second).is_pending());
    drop(dropped);
    assert_eq!(sender.shared.state.lock().waiting.len(), 1, "one place a future, and none once it is dropped");
    assert!(now(source.next_change()).unwrap().is_some());
    assert_eq!((first.0.load(SeqCst), second.0.load(SeqCst)), (1, 0));
    assert_eq!(poll(&mut sending, &first), Poll::Ready(Ok(())));
    let mut last = sender.send(insert(4));
    assert!(poll(&mut last, &second).is_pending());
    drop(source);
    assert_eq!(second.0.load(SeqCst), 1);
    assert_eq!(poll(&mut last, &second), Poll::Ready(Err(SendError(insert(4)))));
}

#[test]
fn a_waiting_receiver_is_woken_by_a_change_and_by_the_end() {
    let (sender, source) = channel(1);
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let mut cx = Context::from_waker(&waker);
    assert!(source.poll_next(&mut cx).is_pending());
    sender.try_send(insert(1)).unwrap();
    assert_eq!(count.0.load(SeqCst), 1);
    assert!(source.poll_next(&mut cx).is_ready());
    assert!(source.poll_next(&mut cx).is_pending());
    drop(sender);
    assert_eq!(count.0.load(SeqCst), 2);
    assert_eq!(source.poll_next(&mut cx), Poll::Ready(None));
}

/// Many threads send, one takes: every change arrives once and each sender's arrive in order.
#[test]
fn threads_lose_nothing_and_keep_their_order() {
    const EACH: u32 = 2_000;
    let (sender, mut source) = channel(3);
    std::thread::scope(|scope| {
        for sender_index in 0..4 {
            let sender = sender.clone();
            scope.spawn(move || {
                for weight in 0..EACH {
                    block_on(sender.send(Change::Insert(backend(sender_index).with_weight(weight)))).unwrap();
                }
            });
        }
        drop(sender);
        let mut seen = [0; 4];
        while let Some(change) = block_on(source.next_change()) {
            let Change::Insert(backend) = change.unwrap() else { unreachable!("only insertions are sent") };
            let std::net::SocketAddr::V4(address) = backend.address() else { unreachable!("only IPv4 is sent") };
            let next: &mut u32 = &mut seen[usize::from(address.ip().octets()[3])];
            assert_eq!(backend.weight(), *next);
            *next += 1;
        }
        assert_eq!(seen, [EACH; 4]);
    });
}

fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}
