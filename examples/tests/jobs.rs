//! A test for each row of the ledger that rung 10 proves, with its parts in one process. What needs crashes and load is in
//! the climb itself.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use app::jobs::broker::{self, BrokerCounts, Dead, MAX_ATTEMPTS};
use app::jobs::browser::{Seen, browse};
use app::jobs::effects::Effects;
use app::jobs::front::{self, Front};
use app::jobs::job::{Job, JobKey};
use app::jobs::queue::{Address, Jobs, QueueError};
use app::jobs::work::{Hands, Places};
use app::jobs::{pictures, smtp};
use bytes::Bytes;
use hyper::{Method, StatusCode};
use tenfold_mq::{Config, Queue};
use tenfold_rig::{Station, TempDir};
use tokio::net::TcpListener;

const WAIT: Duration = Duration::from_secs(2);

/// Serves `routes` on a free port until the test ends.
async fn serve(routes: axum::Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    address
}

fn sms(number: u64) -> (JobKey, Bytes) {
    let job = Job::Sms { phone: "+1-555-0100".to_owned(), text: format!("your code is {number}") };
    (JobKey::new(format!("sms-{number}")).unwrap(), Bytes::from(serde_json::to_vec(&job).unwrap()))
}

/// The queue behind its routes, and the way to it.
async fn broker_of(queue: &Queue) -> (SocketAddr, Jobs) {
    let address = serve(broker::router(queue.clone())).await;
    (address, Jobs::connect(Address::Broker(address)).await.unwrap())
}

fn places(dir: &Path, world: SocketAddr) -> Places {
    let (uploads, thumbnails) = (dir.join("uploads"), dir.join("thumbnails"));
    for folder in [&uploads, &thumbnails] {
        std::fs::create_dir_all(folder).unwrap();
    }
    Places { smtp: world, sms: world, secret: "secret".to_owned(), browsers: None, uploads, thumbnails }
}

fn front(jobs: Jobs, places: Places) -> axum::Router {
    let (station, inline, uploads) = (Station::instant(), Station::instant(), places.uploads.clone());
    front::router(Front { jobs, station, inline, hands: Hands::new(places), uploads })
}

fn http() -> app::http::Http {
    app::http::Http::new(WAIT)
}

const NOBODY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

#[tokio::test(flavor = "multi_thread")]
async fn r41_what_the_broker_accepted_it_has_after_it_was_opened_again() {
    let dir = TempDir::new().unwrap();
    let queue = Queue::open(dir.path().join("queue"), Config::default()).unwrap();
    let (_, jobs) = broker_of(&queue).await;
    for number in 0..20 {
        let (key, job) = sms(number);
        jobs.send(&key, job.clone()).await.unwrap();
        jobs.send(&key, job).await.unwrap();
    }
    jobs.ack(jobs.receive(WAIT).await.unwrap().unwrap()).await.unwrap();
    let _in_hand = jobs.receive(WAIT).await.unwrap().unwrap();
    queue.close().unwrap();

    let again = Queue::open(dir.path().join("queue"), Config::default()).unwrap();
    let (_, jobs) = broker_of(&again).await;
    let mut keys = Vec::new();
    while let Some(taken) = jobs.receive(Duration::from_millis(50)).await.unwrap() {
        keys.push(taken.key().to_owned());
        jobs.ack(taken).await.unwrap();
    }
    let expected: Vec<_> = (1..20).map(|number| format!("sms-{number}")).collect();
    assert_eq!(keys, expected, "all but the one that was done, each once");
}

/// The tour of the crate shows the three nouns before anything else, and a reader needs no second page for it.
#[test]
fn r42_the_tour_shows_queue_producer_and_consumer_in_fifteen_lines() {
    let source = include_str!("../../mq/src/lib.rs");
    let mut blocks = source.split("//! ```\n");
    let example = blocks.nth(1).unwrap();
    let shown: Vec<_> =
        example.lines().map(|line| &line["//!".len()..]).filter(|line| !line.starts_with(" # ")).collect();
    assert!(shown.len() <= 15, "{} lines", shown.len());
    for noun in ["Queue::open", "queue.producer()", "Message::new", "queue.consumer()", "delivery.ack()"] {
        assert!(example.contains(noun), "{noun}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r43_jobs_are_taken_while_nobody_works() {
    let (dir, queue) = (TempDir::new().unwrap(), Queue::in_memory(Config::default()).unwrap());
    let (broker, jobs) = broker_of(&queue).await;
    let web = serve(front(jobs, places(dir.path(), NOBODY))).await;
    for number in 0..30 {
        let (key, job) = sms(number);
        let answer = http().call(Method::POST, web, &format!("/jobs/{}", key.as_str()), job.clone()).await.unwrap();
        assert_eq!(answer.status, StatusCode::ACCEPTED);
        let inline = http().call(Method::POST, web, &format!("/inline/{}", key.as_str()), job).await.unwrap();
        assert_eq!(inline.status, StatusCode::BAD_GATEWAY, "without a queue the provider's absence is everybody's");
    }
    let counts: BrokerCounts = http().get(broker, "/stats").await.unwrap().json().unwrap();
    assert_eq!((counts.ready, counts.waiting()), (30, 30));
}

#[tokio::test(flavor = "multi_thread")]
async fn r44_a_full_queue_says_429_and_takes_jobs_again_when_there_is_room() {
    let config = Config { max_messages: 3, send_timeout: Duration::ZERO, ..Config::default() };
    let (dir, queue) = (TempDir::new().unwrap(), Queue::in_memory(config).unwrap());
    let (_, jobs) = broker_of(&queue).await;
    let web = serve(front(jobs.clone(), places(dir.path(), NOBODY))).await;
    let post = async |number| {
        let (key, job) = sms(number);
        http().call(Method::POST, web, &format!("/jobs/{}", key.as_str()), job).await.unwrap()
    };
    for number in 0..3 {
        assert_eq!(post(number).await.status, StatusCode::ACCEPTED);
    }
    let refused = post(3).await;
    assert_eq!((refused.status, refused.header("retry-after")), (StatusCode::TOO_MANY_REQUESTS, Some("1")));
    let (key, job) = sms(4);
    assert_eq!(jobs.send(&key, job).await, Err(QueueError::Full));
    jobs.ack(jobs.receive(WAIT).await.unwrap().unwrap()).await.unwrap();
    assert_eq!(post(3).await.status, StatusCode::ACCEPTED);
}

#[tokio::test(flavor = "multi_thread")]
async fn r45_a_dead_workers_job_comes_again_and_a_poison_job_is_given_up() {
    let lease = Duration::from_millis(50);
    let config = Config { lease, max_attempts: MAX_ATTEMPTS, ..Config::default() };
    let queue = Queue::in_memory(config).unwrap();
    let (broker, jobs) = broker_of(&queue).await;
    let (key, job) = sms(1);
    jobs.send(&key, job).await.unwrap();
    // Taken by one who never says anything again.
    let lost = jobs.receive(WAIT).await.unwrap().unwrap();
    let again = jobs.receive(WAIT).await.unwrap().unwrap();
    assert_eq!(again.key(), lost.key());
    assert_eq!(jobs.ack(lost).await, Err(QueueError::Answered(StatusCode::CONFLICT)), "it is another's now");
    jobs.ack(again).await.unwrap();

    let poison = Bytes::from(serde_json::to_vec(&Job::Impossible).unwrap());
    jobs.send(&JobKey::new("impossible-1").unwrap(), poison).await.unwrap();
    for _ in 0..MAX_ATTEMPTS {
        let taken = jobs.receive(WAIT).await.unwrap().expect("it comes again");
        jobs.give_back(taken).await.unwrap();
    }
    assert!(jobs.receive(lease * 10).await.unwrap().is_none());
    let dead: Vec<Dead> = http().get(broker, "/dead").await.unwrap().json().unwrap();
    assert!(matches!(&dead[..], [one] if one.key == "impossible-1" && one.attempts == MAX_ATTEMPTS), "{dead:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn r46_each_kind_of_job_done_twice_has_its_effect_once() {
    let (dir, queue) = (TempDir::new().unwrap(), Queue::in_memory(Config::default()).unwrap());
    let effects = std::sync::Arc::new(Effects::default());
    let mail = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let smtp_address = mail.local_addr().unwrap();
    tokio::spawn(smtp::serve(mail, std::sync::Arc::clone(&effects)));
    let sms_address = serve(app::jobs::world::router("secret".to_owned(), std::sync::Arc::clone(&effects))).await;
    let mut places = Places { smtp: smtp_address, ..places(dir.path(), sms_address) };
    let (_, jobs) = broker_of(&queue).await;
    let web = serve(front(jobs, places.clone())).await;
    places.browsers = Some(web);
    let picture = places.uploads.join("picture-1.png");
    pictures::write(&picture, (64, 64), &pictures::sample(1, (64, 64))).unwrap();
    let seen = Seen::default();
    let browser = tokio::spawn(browse(web, 7, seen.clone()));

    let hands = Hands::new(places.clone());
    let all = [
        Job::Thumbnail { picture: "picture-1".to_owned(), pixels: 16 },
        Job::Mail { to: "ann@example.org".to_owned(), subject: "Hello".to_owned(), text: "Hi".to_owned() },
        Job::Sms { phone: "+1-555-0100".to_owned(), text: "1234".to_owned() },
        Job::Notification { user: 7, text: "you were mentioned".to_owned() },
    ];
    for job in &all {
        let key = JobKey::new(format!("{}-1", job.kind())).unwrap();
        hands.work(&key, job).await.unwrap();
        hands.work(&key, job).await.unwrap();
    }
    assert_eq!(pictures::read(&places.thumbnails.join("thumbnail-1.png")).unwrap().0, (16, 16));
    for kind in ["mail", "sms"] {
        let done = effects.of(kind);
        assert_eq!((done.once.len(), done.repeated), (1, 1), "{kind}");
    }
    let key = JobKey::new("notification-1").unwrap();
    while !seen.counts().contains_key(&key) {
        tokio::task::yield_now().await;
    }
    // One more, so that a repetition of the first would have been seen by now.
    hands.work(&JobKey::new("notification-2").unwrap(), &all[3]).await.unwrap();
    while seen.counts().len() < 2 {
        tokio::task::yield_now().await;
    }
    assert!(seen.counts().values().all(|count| *count == 1));
    assert!(hands.work(&key, &Job::Impossible).await.is_err());
    browser.abort();
}
