use super::*;
use crate::proxy_faults::cost::Cost;
use crate::proxy_faults::schedule::Timeline;

const MS: Duration = Duration::from_millis(1);

/// A run in which every request was answered in a millisecond, by the backends in turn.
fn well(scenario: Scenario) -> Record {
    let sample =
        |ms: u32| Sample { intended: ms * MS, latency: MS, outcome: Outcome::Good(Some((ms as usize % COUNT) as u8)) };
    let samples: Vec<Sample> = (0..13_000).map(sample).collect();
    let arrivals = std::array::from_fn(|index| {
        let is_its = |sample: &&Sample| sample.outcome == Outcome::Good(Some(index as u8));
        samples.iter().filter(is_its).map(|sample| sample.intended).collect()
    });
    let rotations = vec![(Duration::ZERO, [true; COUNT])];
    let cost = Cost { others_cpu: 6_500 * MS, ..Cost::default() };
    Record { scenario, timeline: Timeline::FULL, samples, arrivals, rotations, cost }
}

#[test]
fn a_run_without_trouble() {
    let figures = Figures::of(&well(Scenario::Grey)).unwrap();
    let expected = Figures {
        requests: 12_000,
        failed: 0,
        slow: 0,
        slow_after_detection: 0,
        p50: MS,
        p99: MS,
        max: MS,
        max_before: MS,
        ejected: None,
        silent: None,
        returned: None,
        recovered: Duration::ZERO,
        amplification: Some(1.0),
        busy_elsewhere: 0.5,
    };
    assert_eq!(figures, expected);
}

#[test]
fn an_ejection_parts_the_slow() {
    let mut record = well(Scenario::Grey);
    // The fault is at 4 s; the backend is left alone from 4.2 s on, and has requests again half a second after 8 s.
    // Neither before nor long after that has an answer to do with the fault.
    for (ms, latency) in [(4_010, 500), (4_250, 60), (4_301, 70), (8_400, 80), (1_500, 90), (9_000, 600)] {
        record.samples[ms].latency = latency * MS;
    }
    record.samples[4_020].outcome = Outcome::Cut;
    record.samples[8_600].outcome = Outcome::Status(502);
    record.rotations.push((4_200 * MS, [true, false, true]));
    record.arrivals[VICTIM].retain(|&at| at < 4_199 * MS || at >= 8_500 * MS);
    let anonymous = |s: &&mut Sample| s.intended >= 4_190 * MS && !s.failed();
    record.samples.iter_mut().filter(anonymous).for_each(|s| s.outcome = Outcome::Good(None));
    let figures = Figures::of(&record).unwrap();
    assert_eq!((figures.failed, figures.slow, figures.slow_after_detection), (2, 4, 2));
    assert_eq!((figures.max, figures.max_before), (500 * MS, 90 * MS));
    assert_eq!((figures.ejected, figures.silent), (Some(200 * MS), Some(198 * MS)));
    assert_eq!((figures.returned, figures.recovered), (Some(500 * MS), 600 * MS));
    assert!((figures.amplification.unwrap() - 0.683).abs() < 0.001, "{figures:?}");
}

#[test]
fn a_stopped_backend_records_its_backlog_when_it_goes_on() {
    let mut record = well(Scenario::Hang);
    record.arrivals[VICTIM].retain(|&at| at < 4_000 * MS);
    record.arrivals[VICTIM].extend((0..170).map(|_| 8_001 * MS).chain([8_300 * MS]));
    record.samples.iter_mut().filter(|s| s.intended >= 4_000 * MS).for_each(|s| s.outcome = Outcome::Good(None));
    let figures = Figures::of(&record).unwrap();
    assert_eq!((figures.silent, figures.returned), (None, Some(300 * MS)));
    let from_the_others = 8_000.0 / 3.0;
    assert!((figures.amplification.unwrap() - (from_the_others + 170.0) / 4_000.0).abs() < 0.001, "{figures:?}");
}

#[test]
fn requests_sent_again_are_seen_by_backends() {
    let mut record = well(Scenario::AllFailing);
    let during: Vec<Duration> = (4_000..8_000).map(|ms| ms * MS).collect();
    record.arrivals[0].extend(during);
    assert_eq!(Figures::of(&record).unwrap().amplification, Some(2.0));
    record.scenario = Scenario::Kill;
    assert_eq!(Figures::of(&record).unwrap().amplification, None);
}

#[test]
fn failures_without_a_fault_are_no_result() {
    let mut record = well(Scenario::Kill);
    record.samples[3_000].outcome = Outcome::Status(502);
    let unsound = Unsound::FailedBefore { count: 1, outcome: Outcome::Status(502) };
    assert_eq!(Figures::of(&record), Err(unsound));
    record.samples[3_000].latency = 1_500 * MS;
    assert!(Figures::of(&record).is_ok(), "the fault came in between");
    record.scenario = Scenario::Calm;
    assert!(Figures::of(&record).is_err(), "there is no fault");
}

#[test]
fn answers_that_nobody_gave_are_no_result() {
    let mut record = well(Scenario::Errors);
    let last = record.arrivals[2].pop();
    assert!(last.is_some());
    let unsound = Unsound::Miscounted { backend: 2, arrivals: 4_332, answers: 4_333 };
    assert_eq!(Figures::of(&record), Err(unsound));
}

#[test]
fn explanations_count_from_the_fault() {
    let mut record = well(Scenario::Kill);
    record.samples[4_002].latency = 51 * MS;
    record.samples[4_003].outcome = Outcome::Cut;
    let lines = explain(&record, 1);
    assert_eq!(lines[1..], ["     +2.0 ms Good(Some(0)) after 51.0 ms"]);
    assert_eq!(explain(&record, 9).len(), 3);
}
