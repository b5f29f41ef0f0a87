//! The ledger says what the sources prove, and nothing else.

use std::path::Path;

use tenfold_rig::{ROWS, Row, Status, check_ledger, check_ledger_tree};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

#[test]
fn every_row_and_every_named_test_agree() {
    let drift = check_ledger_tree(ROWS, ROOT).unwrap();
    assert!(drift.is_empty(), "{}", drift.iter().map(|drift| format!("{drift}\n")).collect::<String>());
}

#[test]
fn the_rows_of_the_rungs_that_are_there_are_tested() {
    let present = (1..=29).chain(41..=46).chain(55..=56).map(|number| format!("r{number:02}"));
    for id in present {
        let row = ROWS.iter().find(|row| row.id == id).unwrap();
        assert_eq!(row.status, Status::Tested, "{id} is open");
    }
}

#[test]
fn a_row_without_its_test_is_found() {
    let rows: Vec<Row> = ROWS.to_vec();
    let none: [(&Path, &str); 0] = [];
    let named = rows.iter().map(|row| row.tests.len()).sum::<usize>();
    assert_eq!(check_ledger(&rows, none).len(), named, "each named test is missed");
}
