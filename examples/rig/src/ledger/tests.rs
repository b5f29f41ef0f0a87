use std::path::Path;

use super::*;

/// A source with `§` for the letter r, lest its tests count as tests of this file.
const SOURCE: &str = "
#[test]
fn §01_one_process() {}

#[tokio::test(flavor = \"multi_thread\")]
#[ignore = \"slow\"]
// why
async fn §02_names() {}

fn §03_is_no_test() {}

#[test]
fn other() { let §04_not_a_function = 1; }

#[cfg(test)]
fn §05_helper() {}
";

fn source() -> String {
    SOURCE.replace('§', "r")
}

fn rows() -> Vec<Row> {
    let open = |id| Row { id, statement: "asked", place: "01", status: Status::Open, tests: &[] };
    let mut rows: Vec<Row> = ROWS.iter().map(|row| open(row.id)).collect();
    rows[0] = Row { status: Status::Tested, tests: &["r01_one_process"], ..rows[0] };
    rows[1] = Row { status: Status::Tested, tests: &["r02_names"], ..rows[1] };
    rows
}

fn check_source(rows: &[Row]) -> Vec<Drift> {
    check(rows, [(Path::new("a.rs"), source().as_str())])
}

#[test]
fn tests_named_after_a_row_are_found_and_nothing_else() {
    assert_eq!(tests_in(&source()), ["r01_one_process", "r02_names"]);
    assert_eq!(tests_in("#[test] \n fn r123_x() {}\n#[test]\nfn r1é_x() {}"), [] as [&str; 0]);
}

#[test]
fn rows_and_sources_that_agree_are_no_drift() {
    assert_eq!(check_source(&rows()), []);
}

#[test]
fn every_kind_of_drift_is_found() {
    let mut rows = rows();
    rows[1] = Row { status: Status::Open, tests: &[], ..rows[1] };
    rows[2] = Row { status: Status::Tested, tests: &["r03_is_no_test"], ..rows[2] };
    rows[3] = Row { status: Status::Tested, tests: &[], ..rows[3] };
    rows[4] = Row { tests: &["r01_one_process"], ..rows[4] };
    rows[5].id = "r05";
    let id = |id: &str| id.to_owned();
    let expected = [
        Drift::MissingRow { id: id("r06") },
        Drift::StrayRow { id: id("r05") },
        Drift::NoTest { id: id("r04") },
        Drift::OpenWithTest { id: id("r05") },
        Drift::UnknownTest { id: id("r03"), test: id("r03_is_no_test") },
        Drift::UnknownTest { id: id("r05"), test: id("r01_one_process") },
        Drift::UnlistedTest { test: id("r02_names"), file: "a.rs".into() },
    ];
    assert_eq!(check_source(&rows), expected);
    assert_eq!(expected[6].to_string(), "the test r02_names in a.rs is not in the ledger");
}

#[test]
fn the_ledger_has_every_row_once_and_in_order() {
    let ids: Vec<String> = (1..=57).map(|number| format!("r{number:02}")).collect();
    assert!(ROWS.iter().map(|row| row.id).eq(ids.iter().map(String::as_str)));
    assert!(ROWS.iter().all(|row| !row.statement.is_empty() && !row.place.is_empty()));
}

#[test]
fn the_table_shows_what_the_last_climb_said() {
    let (mut verdicts, engine) = (BTreeMap::new(), Some("nats-server 2.9.10".to_owned()));
    verdicts.insert("r01".to_owned(), LastVerdict { passed: 2, ..LastVerdict::default() });
    verdicts.insert("r02".to_owned(), LastVerdict { passed: 3, failed: 1, engine });
    let text = render(&rows()[..3], &verdicts);
    let expected = "\
id   status  climb    where  requirement
r01  tested  pass 2   01     asked
                               r01_one_process
r02  tested  FAIL     01     asked (climbed on nats-server 2.9.10)
                               r02_names
r03  open    -        01     asked
2 of 3 tested, 1 failed in the last climb
";
    assert_eq!(text, expected);
}

#[test]
fn verdicts_are_read_from_a_report_and_bad_ones_refused() {
    let path = std::env::temp_dir().join(format!("tenfold-ledger-{}.json", std::process::id()));
    assert_eq!(read_verdicts(&path).unwrap(), BTreeMap::new(), "no report, no verdicts");
    std::fs::write(
        &path,
        r#"{"rungs":[{"rung":"01","engine":"one","claims":[{"id":"r04","verdict":"pass"},{"id":"r04","verdict":"fail","new":1}]},{}]}"#,
    )
    .unwrap();
    let expected = LastVerdict { passed: 1, failed: 1, engine: Some("one".to_owned()) };
    assert_eq!(read_verdicts(&path).unwrap()["r04"], expected);
    std::fs::write(&path, "{\n\"rungs\": 7}").unwrap();
    let error = read_verdicts(&path).unwrap_err();
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(error, VerdictsError::Malformed { line: 2, .. }), "{error}");
}

#[test]
fn a_tree_is_walked_without_its_build_output() {
    let root = std::env::temp_dir().join(format!("tenfold-tree-{}", std::process::id()));
    for folder in ["src", "target", ".git"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
        std::fs::write(root.join(folder).join("a.rs"), source()).unwrap();
    }
    std::fs::write(root.join("src/note.txt"), "#[test]\nfn r09_no_source() {}").unwrap();
    let drift = check_tree(&rows(), &root);
    std::fs::remove_dir_all(&root).unwrap();
    assert_eq!(drift.unwrap(), []);
    assert!(check_tree(&rows(), &root).is_err(), "a tree that is not there");
}
