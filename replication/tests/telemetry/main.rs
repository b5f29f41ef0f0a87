//! What the host's recorder and subscriber get to see.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::{Counter, CounterFn, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use parking_lot::Mutex;
use tenfold_replication::sim::Sim;
use tenfold_replication::{Cluster, DetectConfig, Error, FailoverConfig, NodeId, Session};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};

type Values = Arc<Mutex<BTreeMap<String, f64>>>;

#[derive(Default)]
struct Figures(Values);

struct Figure(Values, String);

impl Figures {
    fn figure(&self, key: &Key) -> Arc<Figure> {
        let labels: Vec<_> = key.labels().map(|label| label.value()).collect();
        Arc::new(Figure(Arc::clone(&self.0), format!("{} {}", key.name(), labels.join(" "))))
    }
}

impl Figure {
    fn put(&self, value: f64) {
        self.0.lock().insert(self.1.clone(), value);
    }
}

impl CounterFn for Figure {
    fn increment(&self, _: u64) {
        panic!("figures are handed over as they stand");
    }

    fn absolute(&self, value: u64) {
        self.put(value as f64);
    }
}

impl GaugeFn for Figure {
    fn increment(&self, _: f64) {
        panic!("figures are handed over as they stand");
    }

    fn decrement(&self, _: f64) {
        panic!("figures are handed over as they stand");
    }

    fn set(&self, value: f64) {
        self.put(value);
    }
}

impl Recorder for Figures {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.figure(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.figure(key))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// Each span and event as a line.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>, Arc<AtomicU64>);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
}

impl Subscriber for Told {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("tenfold_replication")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut line = Line(format!("{} span {}", span.metadata().level(), span.metadata().name()));
        span.record(&mut line);
        self.0.lock().push(line.0);
        Id::from_u64(self.1.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        self.0.lock().push(line.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

impl Told {
    fn has(&self, level: &str, words: &[&str]) -> bool {
        self.0.lock().iter().any(|line| line.starts_with(level) && words.iter().all(|word| line.contains(word)))
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A primary dies with a write that nobody else had, and comes back.
#[tokio::test(start_paused = true)]
async fn a_failover_is_told_to_recorder_and_subscriber() {
    let told = Told::default();
    let _set = tracing::subscriber::set_default(told.clone());
    let (sim, nodes) = Sim::with_nodes(3, 1);
    let cluster = Cluster::builder(sim.driver()).nodes(nodes).seed(1).build().unwrap();
    tokio::spawn(cluster.clone().drive());
    cluster.ready(ms(1_000)).await.unwrap();
    let session = Session::new();
    cluster.write(&session, |mut c| async move { c.append(1, 1).await }).await.unwrap();
    cluster.read(&session, |mut c| async move { c.list(1).await }).await.unwrap();
    assert!(told.has("TRACE", &["routed", "route=", "floor=At"]), "{:#?}", told.0.lock());
    let refused = cluster.read(&session, |mut c| async move { c.append(1, 2).await }).await;
    assert!(matches!(refused, Err(Error::WriteInRead(_))), "{refused:?}");
    assert!(told.has("DEBUG", &["a read failed", "a statement of a read tried to write"]), "{:#?}", told.0.lock());
    assert!(!told.has("INFO span", &["failover"]));

    tokio::time::sleep(ms(100)).await;
    sim.isolate(NodeId(0), false);
    cluster.write(&session, |mut c| async move { c.append(1, 3).await }).await.unwrap();
    sim.crash(NodeId(0));
    sim.heal();
    tokio::spawn(cluster.clone().supervise(DetectConfig::default(), FailoverConfig::default()));
    tokio::time::sleep(ms(2_000)).await;
    sim.restart(NodeId(0));
    tokio::time::sleep(ms(3_000)).await;
    let lost = cluster.read(&session, |mut c| async move { c.list(1).await }).await;
    assert!(matches!(lost, Err(Error::Lost(_))), "{lost:?}");

    for words in [
        &["span failover", "mission=Crash", "epoch="][..],
        &["fenced", "node=n1", "role=Replica"],
        &["promoted", "known_lost="],
        &["another epoch"],
        &["rejoined", "node=n0", "discarded=Some"],
    ] {
        assert!(told.has("INFO", words), "{words:?} in {:#?}", told.0.lock());
    }
    assert!(told.has("WARN", &["a session is told of a loss", "own_write=true"]));
    assert!(told.has("WARN", &["a node does not answer", "node=n0", "connection refused"]));
    assert!(told.has("INFO", &["a node answers again", "node=n0"]));

    let (figures, stats) = (Figures::default(), cluster.stats());
    metrics::with_local_recorder(&figures, || stats.record("orders"));
    let values = figures.0.lock();
    let primary = stats.nodes.iter().find(|node| node.role == Some(tenfold_replication::Role::Primary)).unwrap().node;
    for (name, value) in [
        ("replication_writes_total orders", 2.0),
        ("replication_writes_in_reads_total orders", 1.0),
        ("replication_failovers_total orders", 1.0),
        ("replication_rejoins_total orders", 1.0),
        ("replication_losses_written_total orders", 1.0),
        ("replication_epoch orders", stats.epoch.unwrap().0 as f64),
        (format!("replication_node_primary orders {primary}").as_str(), 1.0),
        ("replication_node_primary orders n0", 0.0),
        ("replication_node_reachable orders n0", 1.0),
    ] {
        assert_eq!(values.get(name), Some(&value), "{name} in {values:#?}");
    }
    assert!(values.contains_key("replication_node_staleness_seconds orders n0"));
    // Every counter is there: as many as the struct has.
    let debug = format!("{stats:?}");
    for name in values.keys().filter_map(|name| name.strip_suffix("_total orders")) {
        assert!(debug.contains(name.strip_prefix("replication_").unwrap()), "{name}");
    }
}

/// A replica hangs with the reads that it was sent.
#[tokio::test(start_paused = true)]
async fn an_ejection_is_told_to_the_subscriber() {
    let told = Told::default();
    let _set = tracing::subscriber::set_default(told.clone());
    let (sim, nodes) = Sim::with_nodes(2, 1);
    let cluster = Cluster::builder(sim.driver()).nodes(nodes).seed(1).build().unwrap();
    tokio::spawn(cluster.clone().drive());
    cluster.ready(ms(1_000)).await.unwrap();
    sim.pause(NodeId(1));
    let read = async |number| cluster.read(&Session::new(), |mut c| async move { c.list(number).await }).await;
    let (one, other, third) = tokio::join!(read(1), read(2), read(3));
    assert!(one.is_ok() && other.is_ok() && third.is_ok(), "the primary serves them");
    assert!(told.has("WARN", &["a node is ejected", "node=n1", "length=1s"]), "{:#?}", told.0.lock());
    assert_eq!(cluster.stats().nodes[1].ejections, 1);
}
