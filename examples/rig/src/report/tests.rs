use super::*;

/// Two rungs: one near theory with a failed claim, one far from it.
fn sample() -> Report {
    let mut report = Report {
        p99_bound_ms: 150.0,
        seed: 7,
        workload: "keys by Zipf's law".into(),
        machine: vec![Fact::new("cores", "2")],
        cost: vec![Fact::new("box", "4 slots × exp(20 ms)")],
        ..Report::default()
    };
    let mut first = RungReport::new("01", "single server");
    (first.capacity, first.theory) = (156.0, Some(164.0));
    first.repeats = vec![150.0, 156.0, 162.0];
    first.curves = vec![Curve { label: "01".into(), measured: vec![point(80.0), point(160.0)], ..Curve::default() }];
    first.claims = vec![
        Claim::new("r04", "a kill fails all", 100.0, true).unit("%").control(0.0),
        Claim::new("r04", "the knee is where theory has it", "no", false).note("within 20 %"),
    ];
    first.transcript = vec!["GET /users/123".into(), "```".into()];
    report.push(first);
    let mut second = RungReport::new("02", "web | db");
    (second.capacity, second.theory) = (200.0, Some(368.0));
    (second.failed_ratio, second.control_failed_ratio) = (Some(0.0), Some(0.228));
    second.fault = "kill -9 web".into();
    second.tiers = vec![TierView::new("web", (1..=9).map(|n| format!("web-{n}"))), TierView::new("db", ["db"])];
    let mut table = Table::new("Strategies", ["strategy", "hit"]);
    table.row(["cache-aside", "74.8 %"]).row(["none", "–"]);
    second.tables = vec![table];
    second.limits = vec!["one box".into()];
    report.push(second);
    report
}

fn point(rate: f64) -> Point {
    Point { rate, p50_ms: 14.0, p99_ms: rate, failed_ratio: 0.0 }
}

#[test]
fn what_follows_from_the_figures_is_computed() {
    let report = sample();
    let (first, second) = (&report.rungs[0], &report.rungs[1]);
    assert!((first.ratio.unwrap() - 156.0 / 164.0).abs() < 1e-12);
    assert!(!first.suspect && second.suspect);
    assert!((first.spread - 12.0 / 156.0).abs() < 1e-12);
    assert_eq!(first.daily_users.round(), (156.0 * 86_400.0f64 / 60.0).round());
    assert!(!first.is_accepted() && !second.is_accepted() && !report.is_accepted());
    assert!(!Report::default().is_accepted(), "nothing climbed, nothing proven");
}

#[test]
fn the_bounds_of_belief_belong_to_it() {
    for (capacity, suspect) in [(79.9, true), (80.0, false), (105.0, false), (105.1, true)] {
        let mut report = Report::default();
        report.push(RungReport { capacity, theory: Some(100.0), ..RungReport::default() });
        assert_eq!(report.rungs[0].suspect, suspect, "{capacity}");
        assert_eq!(report.is_accepted(), !suspect);
    }
    let mut unmodelled = Report::default();
    unmodelled.push(RungReport { capacity: 5.0, theory: Some(f64::INFINITY), ..RungReport::default() });
    assert_eq!((unmodelled.rungs[0].theory, unmodelled.rungs[0].suspect), (None, false));
}

#[test]
fn the_table_is_the_one_of_the_design() {
    let text = sample().to_text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[..3],
        [
            "rung              capacity@150ms  theory  ratio            ≈daily users  p99 there  failed under fault                    nodes  CPU cores",
            "01 single server          156 /s     164  0.95                    225 k     0.0 ms  –                                         0       0.00",
            "02 web | db               200 /s     368  harness suspect         288 k     0.0 ms  kill -9 web: 0.00 % (control 22.8 %)      0       0.00",
        ]
    );
    assert_eq!(
        lines[3],
        "modelled: box = 4 slots × exp(20 ms). measured: everything else. users = rate × 86400 ÷ (20 req/day × peak 3)"
    );
    assert_eq!(lines[4], "FAIL r04 in 01: the knee is where theory has it: no (within 20 %)");
    assert_eq!(lines[5], "SUSPECT 02: 200 /s measured, 368 by theory: the harness is in doubt");
}

#[test]
fn json_has_the_promised_shape_and_reads_back() {
    let report = sample();
    let json = report.to_json();
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    let rung = &value["rungs"][1];
    assert_eq!(rung["rung"], "02");
    assert_eq!((rung["capacity"].as_f64(), rung["theory"].as_f64()), (Some(200.0), Some(368.0)));
    assert!(rung["p99_ms"].is_number() && rung["failed_ratio"] == 0.0 && rung["suspect"] == true);
    let claim = &value["rungs"][0]["claims"][1];
    assert_eq!((&claim["id"], &claim["value"], &claim["verdict"]), (&"r04".into(), &"no".into(), &"fail".into()));
    let read: Report = serde_json::from_str(&json).unwrap();
    assert_eq!(read.to_text(), report.to_text());
    assert_eq!(read.to_html(), report.to_html());
}

#[test]
fn figures_that_are_none_do_not_break_a_reader() {
    let mut rung = RungReport::new("01", "odd");
    (rung.capacity, rung.p99_ms, rung.failed_ratio) = (f64::NAN, f64::INFINITY, Some(f64::NAN));
    rung.repeats = vec![f64::NAN, 1.0];
    rung.curves = vec![Curve { measured: vec![point(f64::NAN), point(1.0)], ..Curve::default() }];
    rung.claims = vec![Claim::new("r01", "odd", f64::NAN, true).control(f64::INFINITY)];
    let mut report = Report::default();
    report.push(rung);
    assert_eq!(report.rungs[0].curves[0].measured.len(), 1);
    assert_eq!(serde_json::from_str::<Report>(&report.to_json()).unwrap(), report);
}

/// Every text of a report that a page shows.
fn hostile(text: &str) -> Report {
    let text = || text.to_owned();
    let mut report = sample();
    (report.workload, report.mode) = (text(), text());
    (report.commit, report.started) = (Some(text()), Some(text()));
    report.machine = vec![Fact::new(text(), text())];
    report.cost = vec![Fact::new(text(), text())];
    let rung = &mut report.rungs[1];
    (rung.rung, rung.title, rung.summary, rung.fault) = (text(), text(), text(), text());
    rung.tiers = vec![TierView::new(text(), [text()])];
    rung.curves = vec![Curve { label: text(), ..Curve::default() }];
    rung.claims = vec![Claim::new(text(), text(), text(), false).control(text()).unit(text()).note(text())];
    let mut table = Table::new(text(), [text()]);
    table.row([text()]).note = text();
    rung.tables = vec![table];
    (rung.limits, rung.transcript) = (vec![text()], vec![text()]);
    report
}

#[test]
fn no_text_becomes_markup() {
    let report = hostile("<b onload=\"x\">&'\u{1}");
    let markup = ["<b ", "onload=\"", "&'", "\u{1}"];
    let pages = [report.to_html(), report.to_svg()];
    let curves = report.curves_to_svg("<b onload=\"x\">&'\u{1}");
    assert_eq!(curves.len(), 1);
    for page in pages.iter().chain(&curves) {
        for piece in markup {
            assert!(!page.contains(piece), "{piece:?} got through");
        }
    }
    assert!(pages[0].contains("&lt;b onload=&quot;x&quot;&gt;&amp;&#39;"));
}

#[test]
fn markdown_tables_keep_their_cells() {
    let markdown = hostile("a|b\n`c` <d>").to_markdown();
    let rows: Vec<&str> = markdown.lines().filter(|line| line.starts_with('|')).collect();
    assert!(rows.iter().any(|row| row.contains(r"a\|b \`c\` \<d>")));
    let markdown = sample().to_markdown();
    assert!(markdown.contains("## 02 web \\| db"));
    assert!(markdown.contains("| r04 | a kill fails all | 100 % | 0 % | pass |  |"), "{markdown}");
    assert!(markdown.contains("````text\nGET /users/123\n```\n````"), "a fence longer than those inside");
}

#[test]
fn a_page_stands_alone() {
    let page = sample().to_html();
    for outside in ["<script", "http://", "https://", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(page.contains("From 156 to 200 requests/s with p99 within 150 ms"));
    assert!(page.contains("+ 4 more"), "nine nodes are drawn as five and a count");
    assert!(Report::default().to_html().contains("Nothing was climbed"));
}

#[test]
fn every_file_is_written_and_a_folder_that_cannot_be_is_named() {
    let folder = std::env::temp_dir().join(format!("tenfold-report-{}", std::process::id()));
    let mut report = sample();
    report.rungs[0].rung = "../01".into();
    let files = report.write(&folder).unwrap();
    let names: Vec<String> = files.iter().map(|file| file.file_name().unwrap().to_string_lossy().into()).collect();
    assert_eq!(names, ["report.json", "report.md", "report.html", "climb.svg", "rung-01.svg"]);
    assert!(files.iter().all(|file| file.parent() == Some(folder.as_path()) && file.exists()));
    let error = report.write(&files[0]).unwrap_err();
    assert_eq!(error.path(), files[0]);
    std::fs::remove_dir_all(&folder).unwrap();
}
