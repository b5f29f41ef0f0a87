use std::cell::RefCell;
use std::convert::Infallible;

use super::search::{Lost, Search};
use super::window::Tally;
use super::*;
use crate::cost::Service;
use crate::load::Response;
use crate::station::Station;

/// A node with one station, answered in this process, so that paused time can pass for it.
fn node(service: Service, seed: u64) -> Client {
    let station = Arc::new(Station::new(service, 512, seed).unwrap());
    Client::in_process(move |_| {
        let station = station.clone();
        async move {
            match station.serve().await {
                Ok(_) => Ok(Response::new(hyper::StatusCode::OK, "")),
                Err(_) => Ok(Response::new(hyper::StatusCode::SERVICE_UNAVAILABLE, "")),
            }
        }
    })
}

fn subject(client: Client) -> Subject {
    Subject::new(client, || Request::get("/"), Exchange::verdict)
}

async fn measure(plan: &CapacityPlan, service: Service) -> Capacity {
    let make = |copy: CopyId| async move { Ok::<_, Infallible>(subject(node(service, copy.seed))) };
    measure_capacity(plan, make, &Progress::silent()).await.unwrap()
}

const BOX: Service = Service { slots: 4, mean_us: 20_000 };

#[tokio::test(start_paused = true)]
async fn finds_what_theory_says_of_one_node() {
    // M/M/4 at 20 ms keeps p99 at 150 ms up to 164.4 requests a second (Erlang C).
    for (expected, seed) in [(164.4, 1), (164.4, 2), (150.0, 3), (180.0, 4)] {
        let plan = CapacityPlan { seed, copies: 4, ..CapacityPlan::new("box", expected) };
        let capacity = measure(&plan, BOX).await;
        let ratio = capacity.rate / 164.4;
        assert!((0.85..1.10).contains(&ratio), "expected {expected}, seed {seed}: {capacity:?}");
        assert!(capacity.low <= capacity.rate && capacity.rate <= capacity.high);
        assert!(capacity.high / capacity.low < 1.3, "{:?}", capacity.repeats);
        assert!((90.0..260.0).contains(&capacity.p99_ms), "p99 there {}", capacity.p99_ms);
        assert!(capacity.curve.is_sorted_by(|a, b| a.rate < b.rate), "{:?}", capacity.curve);
        let (first, last) = (capacity.curve[0], *capacity.curve.last().unwrap());
        assert!(first.p99_ms < last.p99_ms, "{:?}", capacity.curve);
    }
}

#[tokio::test(start_paused = true)]
async fn a_wrong_expectation_costs_time_and_not_the_answer() {
    for expected in [60.0, 600.0] {
        let capacity = measure(&CapacityPlan::new("box", expected), BOX).await;
        let ratio = capacity.rate / 164.4;
        assert!((0.75..1.25).contains(&ratio), "expected {expected}: {capacity:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_figure() {
    let plan = CapacityPlan { repeats: 2, budget: Duration::from_secs(5), ..CapacityPlan::new("", 160.0) };
    let (first, second) = (measure(&plan, BOX).await, measure(&plan, BOX).await);
    assert_eq!(first.repeats, second.repeats);
    let other = measure(&CapacityPlan { seed: 2, ..plan }, BOX).await;
    assert_ne!(first.repeats, other.repeats);
}

#[tokio::test(start_paused = true)]
async fn repeats_in_turn_share_slots_and_guards_go_when_their_repeat_is_over() {
    struct Guard(Arc<Mutex<i32>>);
    impl Drop for Guard {
        fn drop(&mut self) {
            *self.0.lock().unwrap() -= 1;
        }
    }
    let (alive, seen) = (Arc::new(Mutex::new(0)), RefCell::new(Vec::new()));
    let plan = CapacityPlan { at_once: 1, copies: 2, budget: Duration::from_secs(12), ..CapacityPlan::new("", 160.0) };
    assert_eq!(plan.slots(), 2);
    let make = |copy: CopyId| {
        *alive.lock().unwrap() += 1;
        assert!(*alive.lock().unwrap() <= 2, "one repeat at a time");
        seen.borrow_mut().push((copy.repeat, copy.copy, copy.slot));
        let guard = Guard(alive.clone());
        async move { Ok::<_, Infallible>(subject(node(BOX, copy.seed)).keep(guard)) }
    };
    measure_capacity(&plan, make, &Progress::silent()).await.unwrap();
    assert_eq!(*alive.lock().unwrap(), 0);
    assert_eq!(seen.into_inner(), [(0, 0, 0), (0, 1, 1), (1, 0, 0), (1, 1, 1), (2, 0, 0), (2, 1, 1)]);
}

#[tokio::test(start_paused = true)]
async fn progress_is_a_line_a_second() {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = lines.clone();
    let progress = Progress::new(move |line| sink.lock().unwrap().push(line.to_owned()));
    let plan = CapacityPlan { budget: Duration::from_secs(5), ..CapacityPlan::new("01 box", 160.0) };
    let make = |copy: CopyId| async move { Ok::<_, Infallible>(subject(node(BOX, copy.seed))) };
    measure_capacity(&plan, make, &progress).await.unwrap();
    let lines = lines.lock().unwrap();
    assert!((4..=16).contains(&lines.len()), "{lines:?}");
    assert!(lines.iter().all(|line| line.starts_with("01 box") && line.contains("/s p99 ")), "{lines:?}");
}

#[tokio::test(start_paused = true)]
async fn systems_without_capacity_or_limit_are_errors() {
    let plan = CapacityPlan { repeats: 1, ..CapacityPlan::new("", 50.0) };
    let broken = |_| async {
        let client = Client::in_process(|_| async { Err(Failure::Connect) });
        Ok::<_, Infallible>(subject(client))
    };
    let error = measure_capacity(&plan, broken, &Progress::silent()).await.unwrap_err();
    assert!(matches!(error, CapacityError::NoCapacity { failed_ratio: 1.0, .. }), "{error}");
    let boundless = |_| async {
        let client = Client::in_process(|_| async { Ok(Response::new(hyper::StatusCode::OK, "")) });
        Ok::<_, Infallible>(subject(client))
    };
    let error = measure_capacity(&plan, boundless, &Progress::silent()).await.unwrap_err();
    assert!(matches!(error, CapacityError::NoLimit { rate, .. } if rate > 60.0), "{error}");
    let missing = |_| async { Err::<Subject, _>(std::io::Error::other("no such system")) };
    let error = measure_capacity(&plan, missing, &Progress::silent()).await.unwrap_err();
    assert!(matches!(error, CapacityError::Subject(_)), "{error}");
}

#[tokio::test]
async fn plans_that_cannot_be_carried_out_are_refused() {
    let good = CapacityPlan::new("", 100.0);
    let bad = [
        CapacityPlan { expected_rate: 0.0, ..good.clone() },
        CapacityPlan { expected_rate: f64::NAN, ..good.clone() },
        CapacityPlan { repeats: 0, ..good.clone() },
        CapacityPlan { at_once: 0, ..good.clone() },
        CapacityPlan { copies: 0, ..good.clone() },
        CapacityPlan { budget: Duration::from_secs(1), ..good.clone() },
        CapacityPlan { promise: Promise { p99_ms: 0.0, ..Promise::default() }, ..good.clone() },
        CapacityPlan { promise: Promise { failed_ratio: 0.0, ..Promise::default() }, ..good.clone() },
    ];
    for plan in bad {
        let make = |_| async { Err::<Subject, _>(std::io::Error::other("not reached")) };
        let error = measure_capacity(&plan, make, &Progress::silent()).await.unwrap_err();
        assert!(matches!(error, CapacityError::BadPlan(_)), "{error}");
    }
}

#[test]
fn the_search_keeps_to_its_time_and_gives_up_on_the_absurd() {
    let plan = CapacityPlan::new("", 100.0);
    for (above, lost) in [(0, "limit"), (100, "capacity")] {
        let mut search = Search::new(&plan);
        let mut windows = 0;
        while let Some(ask) = search.next() {
            let tally = Tally { requests: 400, above: 4 * above, failed: 4 * above };
            search.learn(tally, ask.length, above > 0);
            windows += 1;
            assert!(windows < 1000);
        }
        match search.answer().unwrap_err() {
            Lost::NoLimit { rate } => assert!(lost == "limit" && rate > 500.0, "{rate}"),
            Lost::NoCapacity { rate, failed_ratio } => {
                assert!(lost == "capacity" && rate < 20.0 && failed_ratio == 1.0, "{rate}");
            }
        }
    }
}

#[test]
fn the_search_settles_where_the_verdict_turns() {
    let plan = CapacityPlan::new("", 100.0);
    let mut search = Search::new(&plan);
    let mut time = Duration::ZERO;
    while let Some(ask) = search.next() {
        // One per cent above the limit at 110 requests a second, steeply more and less around it.
        let share = (0.01 * (ask.rate / 110.0).powi(30)).min(1.0);
        let tally = Tally { requests: 100_000, above: (share * 1e5) as u64, failed: 0 };
        search.learn(tally, ask.length, false);
        time += ask.length;
    }
    let rate = search.answer().unwrap();
    assert!((106.0..112.0).contains(&rate), "{rate}");
    assert!(time <= plan.budget + Duration::from_secs(1), "{time:?}");
}
