//! Tasks that wait for room, which have no clock: whoever has one tells them when they have waited for too long.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use tenfold_mq::{Config, Queue, Refusal};

use crate::support::{Bench, SECOND, Wakes, block_on, next, poll_once, small, text};

fn one_place() -> Config {
    Config { max_messages: 1, send_timeout: 5 * SECOND, ..small() }
}

#[test]
fn a_task_waits_for_room_no_longer_than_it_may() {
    Bench::both(one_place(), |bench, queue| {
        queue.producer().send("first").unwrap();
        let producer = queue.producer();
        let wakes = [(); 2].map(|()| Arc::new(Wakes::default()));
        let counts = || wakes.each_ref().map(|wakes| wakes.count());
        let mut early = pin!(producer.submit_async("early"));
        assert!(poll_once(early.as_mut(), &wakes[0]).is_pending());
        bench.clock.advance(3 * SECOND);
        let mut late = pin!(producer.send_async("late"));
        assert!(poll_once(late.as_mut(), &wakes[1]).is_pending());
        // Of two that wait, the clock is for the first that is over.
        assert!(queue.tick().unwrap() <= 2 * SECOND + Duration::from_millis(1));
        bench.clock.advance(2 * SECOND - Duration::from_millis(1));
        queue.tick().unwrap();
        assert_eq!(counts(), [0, 0]);
        bench.clock.advance(Duration::from_millis(1));
        queue.tick().unwrap();
        assert_eq!(counts(), [1, 0]);
        let Poll::Ready(Err(error)) = poll_once(early.as_mut(), &wakes[0]) else { panic!("it waits on") };
        assert_eq!((error.refusal(), error.unsent().body().as_ref()), (&Refusal::Full, b"early".as_slice()));
        // The other one waits still, and gets the place that comes free.
        assert!(poll_once(late.as_mut(), &wakes[1]).is_pending());
        next(&queue.consumer()).ack().unwrap();
        assert_eq!(counts()[1], 1);
        block_on(late).unwrap();
        assert_eq!(text(&next(&queue.consumer())), "late");
        assert_eq!(queue.stats().refused, 1);
        queue.check_invariants();
    });
}

#[test]
fn a_task_that_may_not_wait_is_refused_at_once() {
    Bench::both(Config { send_timeout: Duration::ZERO, ..one_place() }, |_, queue| {
        let producer = queue.producer();
        block_on(producer.send_async("first")).unwrap();
        assert!(block_on(producer.send_async("second")).unwrap_err().is_full());
    });
}

#[test]
fn a_task_that_may_wait_for_ever_does() {
    Bench::both(Config { send_timeout: Duration::MAX, ..one_place() }, |bench, queue| {
        let producer = queue.producer();
        producer.send("first").unwrap();
        let wakes = Arc::new(Wakes::default());
        let mut second = pin!(producer.send_async("second"));
        assert!(poll_once(second.as_mut(), &wakes).is_pending());
        bench.clock.advance(1_000_000 * SECOND);
        queue.tick().unwrap();
        assert_eq!(wakes.count(), 0);
        assert!(poll_once(second.as_mut(), &wakes).is_pending());
    });
}

#[test]
fn who_sleeps_looks_at_the_clock_for_tasks() {
    // By the real clock, of which only is asked that it goes on.
    let config = Config { send_timeout: Duration::from_millis(20), ..one_place() };
    for is_driver in [true, false] {
        let queue = Queue::in_memory(config.clone()).unwrap();
        queue.producer().send("first").unwrap();
        let leased = next(&queue.consumer());
        let (driver, consumer) = (queue.driver(), queue.consumer());
        thread::scope(|scope| {
            scope.spawn(move || if is_driver { driver.run().is_ok() } else { consumer.receive().is_ok() });
            while !is_driver && queue.stats().groups[0].waiting == 0 {
                thread::yield_now();
            }
            assert!(block_on(queue.producer().send_async("second")).unwrap_err().is_full());
            queue.close().unwrap();
        });
        drop(leased);
    }
}

#[test]
fn who_fits_is_called_though_somebody_larger_waits_longer() {
    let config = Config { max_bytes: 10_000, send_timeout: 100 * SECOND, ..small() };
    Bench::both(config, |_, queue| {
        let producer = queue.producer();
        producer.send_batch([vec![0; 8_000], vec![1; 1_500]]).unwrap();
        let wakes = [(); 2].map(|()| Arc::new(Wakes::default()));
        let mut large = pin!(producer.send_async(vec![2; 9_000]));
        let mut small = pin!(producer.send_async(vec![3; 1_000]));
        assert!(poll_once(large.as_mut(), &wakes[0]).is_pending());
        assert!(poll_once(small.as_mut(), &wakes[1]).is_pending());
        let consumer = queue.consumer();
        let first = next(&consumer);
        next(&consumer).ack().unwrap();
        assert_eq!(wakes.each_ref().map(|wakes| wakes.count()), [0, 1], "there is room for one of them");
        block_on(small).unwrap();
        next(&consumer).ack().unwrap();
        first.ack().unwrap();
        assert_eq!(wakes[0].count(), 1);
        block_on(large).unwrap();
    });
}

#[test]
fn a_batch_waits_for_room_as_a_task() {
    Bench::both(Config { max_messages: 2, ..one_place() }, |_, queue| {
        let (producer, consumer) = (queue.producer(), queue.consumer());
        let ids = block_on(producer.send_batch_async(["a", "b"])).unwrap();
        let wakes = Arc::new(Wakes::default());
        let mut more = pin!(producer.submit_batch_async(["c", "d"]));
        assert!(poll_once(more.as_mut(), &wakes).is_pending());
        next(&consumer).ack().unwrap();
        assert_eq!(wakes.count(), 0, "there is no room for both");
        next(&consumer).ack().unwrap();
        assert_eq!(wakes.count(), 1);
        let ticket = block_on(more).unwrap();
        assert_eq!(block_on(ticket), Ok(tenfold_mq::MessageId::new(ids[1].get() + 2)));
        let mut late = pin!(producer.send_batch_async(["e"]));
        assert!(poll_once(late.as_mut(), &wakes).is_pending());
        queue.close().unwrap();
        let Poll::Ready(Err(error)) = poll_once(late.as_mut(), &wakes) else { panic!("it waits on") };
        assert_eq!((error.refusal(), error.unsent().len()), (&Refusal::Closed, 1));
    });
}
