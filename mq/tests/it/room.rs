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
