//! A report such as a climb makes: curves near theory, claims that hold and one that does not, text that must be escaped.

use std::time::Duration;

use tenfold_rig::{Claim, Curve, Fact, Mmc, Network, Point, Report, RungReport, Table, TierView};

const BOUND: Duration = Duration::from_millis(150);

/// Four rungs.
pub(crate) fn report() -> Report {
    let mut report = Report {
        p99_bound_ms: 150.0,
        mode: "full".into(),
        seed: 7,
        commit: Some("4f2a9c1".into()),
        started: Some("2026-11-24 03:10 UTC".into()),
        elapsed_s: 104.0,
        workload: "keys by the profile of web07 (20484 keys, seed 7), measured on HTTP requests for product pages"
            .into(),
        machine: vec![
            Fact::new("cores", "2"),
            Fact::new("memory", "7.8 GiB"),
            Fact::new("system", "Linux 6.1, x86-64"),
            Fact::new("busy with the load generator", "at most 31 %"),
        ],
        cost: vec![
            Fact::new("single box", "4 slots × exp(20 ms)"),
            Fact::new("web node", "8 slots × exp(10 ms)"),
            Fact::new("database node", "4 slots × exp(10 ms)"),
        ],
        ..Report::default()
    };
    let (box_, web, database) = (mmc(4, 20), mmc(8, 10), mmc(4, 10));
    report.push(single_server(Network::tandem([box_])));
    report.push(split_tiers(Network::tandem([web, database])));
    report.push(up_or_out(Network::tandem([mmc(4, 20).copies(4)])));
    report.push(cache_layer(Network::cached(mmc(8, 10).copies(3), database, 0.75)));
    report
}

fn mmc(slots: u32, mean_ms: u64) -> Mmc {
    Mmc::new(slots, Duration::from_millis(mean_ms))
}

fn rung(number: &str, title: &str, model: &Network, ratio: f64) -> RungReport {
    let theory = model.capacity(BOUND);
    let capacity = (theory * ratio).round();
    let mut rung = RungReport::new(number, title);
    rung.capacity = capacity;
    rung.theory = Some(theory);
    rung.repeats = vec![capacity * 0.97, capacity, capacity * 1.02];
    rung.curves.push(curve(&format!("{number} {title}"), model, capacity, ratio));
    rung.p99_ms = 143.0;
    rung.p50_ms = 31.0;
    rung.harness_cpu_ratio = 0.23;
    rung
}

/// Theory's curve, and measured points that reach the same latency at `ratio` of the rate.
fn curve(label: &str, model: &Network, capacity: f64, ratio: f64) -> Curve {
    let mut curve = model.to_curve(label, BOUND);
    curve.capacity = Some(capacity);
    curve.measured = [0.25, 0.5, 0.7, 0.85, 0.95, 1.0, 1.03]
        .into_iter()
        .filter_map(|share| {
            let latency = model.latency(capacity * share / ratio)?;
            let (p50_ms, p99_ms) = (latency.p50_ms + 1.5, latency.p99_ms + 3.0);
            Some(Point { rate: capacity * share, p50_ms, p99_ms, failed_ratio: 0.0 })
        })
        .collect();
    curve
}

fn single_server(model: Network) -> RungReport {
    let mut rung = rung("01", "single server", &model, 0.95);
    rung.summary = "Web, data and cache in one process: cheap and simple, with one limit and one way to die.".into();
    rung.tiers = vec![TierView::new("one box", ["single"])];
    (rung.nodes, rung.cpu_cores, rung.rss_bytes) = (1, 0.06, 21 << 20);
    rung.fault = "kill -9 the box".into();
    rung.failed_ratio = Some(1.0);
    rung.claims = vec![
        Claim::new("r01", "one process owns every listening socket", 2u32, true).unit("sockets").control(0u32),
        Claim::new("r02", "DNS, then TCP, then HTTP, then the JSON of user 123", r#"{"id":123,"name":"Ada"}"#, true)
            .control("NXDOMAIN for another name"),
        Claim::new("r04", "a kill fails all until the restart", 100.0, true).unit("%").control(0.0),
    ];
    rung.transcript = vec![
        "DNS  app.tenfold.test A? -> 127.0.0.1".into(),
        "HTTP GET /users/123".into(),
        r#"JSON {"id":123,"name":"<Ada> & 'co'"}"#.into(),
    ];
    rung
}

fn split_tiers(model: Network) -> RungReport {
    let mut rung = rung("02", "web | db", &model, 0.93);
    rung.summary = "The database gets a server of its own, so that each tier is sized by itself.".into();
    rung.tiers = vec![TierView::new("web", ["web-1"]), TierView::new("database", ["db"])];
    (rung.nodes, rung.cpu_cores, rung.rss_bytes) = (2, 0.12, 38 << 20);
    rung.claims = vec![
        Claim::new("r05", "twice the database slots carry about twice the load", 1.96, true)
            .unit("×")
            .control(1.01)
            .note("control: twice the web slots"),
        Claim::new("r06", "the sum of all balances after 200 kills in mid-transfer", 0u32, true)
            .unit("off")
            .control(17u32)
            .note("control: without a transaction"),
    ];
    rung.limits = vec!["The database server is a thin SQLite host, not a relational server.".into()];
    rung
}

fn up_or_out(model: Network) -> RungReport {
    let mut rung = rung("03", "up or out", &model, 0.97);
    rung.summary = "One box of sixteen slots against four of four: the same load, another risk.".into();
    rung.tiers = vec![TierView::new("boxes", ["box-1", "box-2", "box-3", "box-4"])];
    (rung.nodes, rung.cpu_cores, rung.rss_bytes) = (4, 0.21, 80 << 20);
    rung.fault = "kill -9 one box".into();
    (rung.failed_ratio, rung.control_failed_ratio) = (Some(0.252), Some(1.0));
    let larger = Network::tandem([mmc(16, 20)]);
    rung.curves.push(curve("one box of 16 slots", &larger, larger.capacity(BOUND) * 0.94, 0.94));
    rung.claims =
        vec![Claim::new("r09", "a kill costs a quarter, not all", 25.2, true).unit("% failed").control(100.0)];
    rung
}

fn cache_layer(model: Network) -> RungReport {
    let mut rung = rung("06", "cache layer", &model, 0.76);
    rung.summary = "Most reads never reach the database. What they see, and when, depends on the strategy.".into();
    rung.tiers = vec![
        TierView::new("web", (1..=3).map(|n| format!("web-{n}"))),
        TierView::new("cache", ["cache"]),
        TierView::new("database", ["db"]),
    ];
    (rung.nodes, rung.cpu_cores, rung.rss_bytes) = (5, 0.33, 140 << 20);
    let mut table = Table::new(
        "Strategies, measured",
        ["strategy", "hit", "cold p99, ms", "expiry p99, ms", "stale, ms", "DB q/s", "wasted loads"],
    );
    table.row(["cache-aside", "74.8 %", "61", "58", "0", "412", "0"]);
    table.row(["read-through", "75.1 %", "60", "57", "0", "398", "0"]);
    table.row(["refresh-ahead", "78.3 %", "60", "14", "180", "455", "1,204"]);
    table.note = "Same seed and load for each; time to live 2 s.".into();
    rung.tables.push(table);
    rung.claims = vec![
        Claim::new("r19", "database queries a request", 0.25, true).control(1.0).note("counted by the database"),
        Claim::new("r24", "stale reads after an acknowledged write <script>alert(1)</script>", 3u32, false)
            .control(212u32)
            .note("must be 0"),
    ];
    rung
}
