use std::sync::Arc;

use super::*;

fn station(slots: u32, mean_ms: u64, max_waiting: u32) -> Station {
    Station::new(Service::new(slots, Duration::from_millis(mean_ms)), max_waiting, 11).unwrap()
}

#[test]
fn refuses_nodes_that_serve_nothing() {
    let no_slots = Station::new(Service { slots: 0, mean_us: 1 }, 1, 0).unwrap_err();
    assert_eq!(no_slots, StationError::NoSlots);
    let no_time = Station::new(Service { slots: 1, mean_us: 0 }, 1, 0).unwrap_err();
    assert_eq!(no_time, StationError::NoServiceTime);
}

#[tokio::test(start_paused = true)]
async fn an_instant_station_adds_nothing() {
    let before = clock::now();
    assert_eq!(Station::instant().serve().await, Ok(Served::default()));
    assert_eq!(clock::now(), before);
}

#[tokio::test(start_paused = true)]
async fn serves_in_order_of_arrival_and_refuses_beyond_the_line() {
    let station = Arc::new(station(1, 10, 2));
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut jobs = Vec::new();
    for i in 0..5 {
        let (station, order) = (station.clone(), order.clone());
        jobs.push(tokio::spawn(async move {
            let outcome = station.serve().await;
            order.lock().unwrap().push(i);
            outcome
        }));
        tokio::task::yield_now().await;
    }
    assert_eq!(station.waiting(), 2, "one in the slot, two in the line");
    let mut refused = 0;
    for job in jobs {
        refused += usize::from(job.await.unwrap() == Err(Overloaded { max_waiting: 2 }));
    }
    assert_eq!(refused, 2);
    // The two refusals come at once, then the served in their order.
    assert_eq!(*order.lock().unwrap(), [3, 4, 0, 1, 2]);
    assert_eq!(station.waiting(), 0);
    assert_eq!((station.stats().taken, station.stats().refused), (3, 2));
}

#[tokio::test(start_paused = true)]
async fn a_saturated_station_works_at_exactly_its_rate() {
    let station = Arc::new(station(4, 10, 100_000));
    let begin = clock::now();
    let jobs: Vec<_> = (0..20_000)
        .map(|_| {
            let station = station.clone();
            tokio::spawn(async move { station.serve().await })
        })
        .collect();
    for job in jobs {
        job.await.unwrap().unwrap();
    }
    let elapsed = begin.elapsed().as_secs_f64();
    let utilisation = station.stats().busy_seconds / (4.0 * elapsed);
    assert!(utilisation > 0.99, "late wake-ups must not delay the next start: {utilisation}");
    let rate = 20_000.0 / elapsed;
    assert!((390.0..410.0).contains(&rate), "4 slots of 10 ms serve 400 a second, here {rate}");
}

#[tokio::test(start_paused = true)]
async fn scales_the_work_of_a_request() {
    let station = station(1, 10, 10);
    assert_eq!(station.serve_scaled(0.0).await.unwrap().service, Duration::ZERO);
    assert_eq!(station.serve_scaled(f64::NAN).await.unwrap().service, Duration::ZERO);
    let mut mean = 0.0;
    for _ in 0..2000 {
        mean += station.serve_scaled(3.0).await.unwrap().service.as_secs_f64() / 2000.0;
    }
    assert!((0.027..0.033).contains(&mean), "{mean}");
}
