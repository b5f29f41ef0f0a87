use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// A server of a few lines that answers each request by `answer`, which is given the request's head.
async fn server<F>(answer: F) -> SocketAddr
where
    F: Fn(String) -> Answer + Send + Sync + Clone + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(converse(stream, answer.clone()));
        }
    });
    addr
}

#[derive(Clone)]
enum Answer {
    Status(u16),
    Body(String),
    Never,
    HangUp,
    LastOne,
}

async fn converse<F: Fn(String) -> Answer>(mut stream: TcpStream, answer: F) {
    let mut buffer = Vec::new();
    loop {
        while !buffer.windows(4).any(|w| w == b"\r\n\r\n") {
            if stream.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let head = String::from_utf8(std::mem::take(&mut buffer)).unwrap();
        let text = match answer(head) {
            Answer::Status(code) => format!("HTTP/1.1 {code} X\r\ncontent-length: 0\r\n\r\n"),
            Answer::Body(body) => format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()),
            Answer::LastOne => {
                // Promises to keep the connection and then does not, as a server may do with an idle one.
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
                return;
            }
            Answer::HangUp => return,
            Answer::Never => std::future::pending().await,
        };
        if stream.write_all(text.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn by_status(exchange: &Exchange) -> Result<(), Failure> {
    exchange.verdict()
}

fn plan(rate: f64, millis: u64) -> LoadPlan {
    LoadPlan { timeout: Duration::from_millis(1000), ..LoadPlan::new(rate, Duration::from_millis(millis)) }
        .warm_up(Duration::ZERO)
}

#[test]
fn refuses_plans_that_make_no_load() {
    assert!(matches!(Client::new([]), Err(LoadError::NoTargets)));
    let client = Client::new(["127.0.0.1:1".parse().unwrap()]).unwrap();
    for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(matches!(Load::new(client.clone(), plan(rate, 10)), Err(LoadError::BadRate(_))), "{rate}");
    }
    assert_eq!(Load::new(client.clone(), plan(1.0, 0)).unwrap_err(), LoadError::NoDuration);
    let no_room = LoadPlan { max_in_flight: 0, ..plan(1.0, 10) };
    assert_eq!(Load::new(client, no_room).unwrap_err(), LoadError::NoRoom);
}

#[tokio::test]
async fn counts_every_arrival_once_and_reuses_connections() {
    let accepted = Arc::new(AtomicU64::new(0));
    let seen = accepted.clone();
    let addr = server(move |_| {
        seen.fetch_add(1, Ordering::Relaxed);
        Answer::Body("hello".into())
    })
    .await;
    let client = Client::new([addr]).unwrap();
    let load = Load::new(client, plan(500.0, 1000)).unwrap();
    let observed = Arc::new(AtomicU64::new(0));
    let count = observed.clone();
    let mut made = 0u64;
    let source = || {
        made += 1;
        Request::get("/x").key(made)
    };
    let result = load
        .run(source, move |exchange| {
            count.fetch_add(1, Ordering::Relaxed);
            assert_eq!(exchange.response().unwrap().body, "hello");
            exchange.verdict()
        })
        .await;
    assert_eq!(result.sent, made);
    assert_eq!((result.ok, result.failed), (made, 0));
    assert_eq!(observed.load(Ordering::Relaxed), made);
    assert_eq!(accepted.load(Ordering::Relaxed), made);
    assert_eq!(result.timeline.iter().map(|s| s.ok).sum::<u64>(), made);
    assert!((400..600).contains(&made), "a Poisson stream of 500 is within 100 of that: {made}");
}

#[tokio::test]
async fn the_same_seed_gives_the_same_arrivals() {
    let addr = server(|_| Answer::Status(204)).await;
    let mut counts = Vec::new();
    for seed in [3, 3, 4] {
        let load = Load::new(Client::new([addr]).unwrap(), plan(300.0, 300).seed(seed)).unwrap();
        counts.push(load.run(|| Request::get("/"), by_status).await.sent);
    }
    assert_eq!(counts[0], counts[1]);
}

#[tokio::test]
async fn failures_have_their_kinds() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let addr = server(|head| match head.split(' ').nth(1).unwrap() {
        "/503" => Answer::Status(503),
        "/404" => Answer::Status(404),
        "/never" => Answer::Never,
        "/hang-up" => Answer::HangUp,
        _ => Answer::Body("other".into()),
    })
    .await;
    let client = Client::new([addr, closed]).unwrap();
    let cases = [
        (Request::get("/503").target(0), Failure::Overloaded),
        (Request::get("/404").target(0), Failure::Status),
        (Request::get("/never").target(0), Failure::TimedOut),
        (Request::get("/hang-up").target(0), Failure::Broken),
        (Request::get("/wrong").target(0), Failure::Wrong),
        (Request::get("/").target(1), Failure::Connect),
        (Request::get("/").target(2), Failure::Malformed),
        (Request::get("no path").target(0), Failure::Malformed),
    ];
    for (request, kind) in cases {
        let load = Load::new(client.clone(), plan(100.0, 100)).unwrap();
        let judge = |exchange: &Exchange| {
            exchange.verdict()?;
            if exchange.response()?.body == "hello" { Ok(()) } else { Err(Failure::Wrong) }
        };
        let result = load.run(|| request.clone(), judge).await;
        assert!(result.sent > 0);
        assert_eq!(result.failures, [(kind, result.sent)].into(), "{request:?}");
        assert_eq!(result.failed_ratio(), 1.0);
    }
}

#[tokio::test]
async fn an_idle_connection_closed_by_the_server_fails_nothing() {
    let addr = server(|_| Answer::LastOne).await;
    let client = Client::new([addr]).unwrap();
    for _ in 0..5 {
        let deadline = clock::now() + Duration::from_secs(5);
        let response = client.send(&Request::get("/"), deadline).await.unwrap();
        assert_eq!(response.status, 200);
        // The close must have arrived; a request that crosses it on the wire is rightly a failure.
        clock::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_full_generator_fails_the_excess_and_latency_counts_from_the_intended_start() {
    let addr = server(|_| Answer::Never).await;
    let load_plan = LoadPlan { max_in_flight: 3, ..plan(1000.0, 150) };
    let load = Load::new(Client::new([addr]).unwrap(), load_plan).unwrap();
    let result = load.run(|| Request::get("/"), by_status).await;
    assert_eq!(result.failures[&Failure::TimedOut], 3);
    assert_eq!(result.failures[&Failure::Saturated], result.sent - 3);
    assert!(result.sent > 50);

    let addr = server(|_| Answer::Status(200)).await;
    let load = Load::new(Client::new([addr]).unwrap(), plan(200.0, 200)).unwrap();
    let mut is_first = true;
    let stalled = || {
        if std::mem::take(&mut is_first) {
            // The generator itself stands still; an honest latency shows it.
            std::thread::sleep(Duration::from_millis(100));
        }
        Request::get("/")
    };
    let result = load.run(stalled, by_status).await;
    assert!(result.max_ms >= 90.0, "{result:?}");
    assert!(result.late_p99_ms >= 80.0, "{result:?}");
}

#[tokio::test]
async fn targets_take_turns_and_faults_come_in_time_order() {
    let hits = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    let mut addrs = Vec::new();
    for index in 0..2 {
        let hits = hits.clone();
        addrs.push(
            server(move |_| {
                hits[index].fetch_add(1, Ordering::Relaxed);
                Answer::Status(200)
            })
            .await,
        );
    }
    let load = Load::new(Client::new(addrs).unwrap(), plan(300.0, 300)).unwrap();
    let faults = Faults::new().at(Duration::from_millis(200), "second", async {}).at(
        Duration::from_millis(100),
        "first",
        async {},
    );
    let result = load.run_with_faults(|| Request::get("/"), by_status, faults).await;
    let labels: Vec<_> = result.events.iter().map(|event| event.label.as_str()).collect();
    assert_eq!(labels, ["first", "second"]);
    assert!(result.events[0].t_s >= 0.1);
    let [a, b] = [hits[0].load(Ordering::Relaxed), hits[1].load(Ordering::Relaxed)];
    assert!(a.abs_diff(b) <= 1, "{a} and {b}");
}

#[test]
fn share_above_and_quantiles_agree() {
    let mut latency = Latency::default();
    (1..=1000u64).for_each(|ms| latency.record(Duration::from_millis(ms)));
    assert!((latency.quantile_ms(0.5) - 500.0).abs() < 1.0);
    assert!((latency.share_above(Duration::from_millis(900)) - 0.1).abs() < 0.002);
    assert_eq!(Latency::default().share_above(Duration::ZERO), 0.0);
    assert_eq!(Latency::default().quantile_ms(0.99), 0.0);
    let mut both = latency.clone();
    both.merge(&latency);
    assert_eq!(both.count(), 2000);
    assert_eq!(both.max_ms().round(), 1000.0);
}
