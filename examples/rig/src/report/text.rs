//! The report as plain text: the table at the end of a run.

use std::fmt::Write as _;

use super::{Fact, Report, RungReport, Table, Verdict, figure};

impl Report {
    /// The before/after table with what is modelled below it, for a terminal or a log.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        if self.noisy {
            text.push_str("NOISY: other load was on the machine; nothing below is a claim.\n");
        }
        text.push_str(&to_text(&self.summary_table()));
        let _ = writeln!(text, "{}", self.footnote());
        for (rung, claim) in self.claims().filter(|(_, claim)| claim.verdict == Verdict::Fail) {
            let value = figure::value(&claim.value, &claim.unit);
            let _ = writeln!(text, "FAIL {} in {}: {}: {value} ({})", claim.id, rung.rung, claim.text, claim.note);
        }
        for rung in self.rungs.iter().filter(|rung| rung.suspect) {
            let _ = writeln!(
                text,
                "SUSPECT {}: {} /s measured, {} by theory: the harness is in doubt",
                rung.rung,
                figure::count(rung.capacity),
                figure::theory(rung)
            );
        }
        text
    }

    /// The table of all rungs.
    pub(super) fn summary_table(&self) -> Table {
        let capacity = format!("capacity@{}ms", figure::significant(self.p99_bound_ms));
        let mut table = Table::new(
            "Before and after",
            [
                "rung",
                capacity.as_str(),
                "theory",
                "ratio",
                "≈daily users",
                "p99 there",
                "failed under fault",
                "nodes",
                "CPU cores",
            ],
        );
        for rung in &self.rungs {
            table.row(summary_row(rung));
        }
        table
    }

    /// What is modelled, what is measured, and how users are computed, in one line.
    pub(super) fn footnote(&self) -> String {
        let modelled = if self.cost.is_empty() { "nothing".to_owned() } else { facts(&self.cost) };
        format!(
            "modelled: {modelled}. measured: everything else. users = rate × 86400 ÷ ({} req/day × peak {})",
            figure::significant(self.users.requests_per_user_day),
            figure::significant(self.users.peak_factor),
        )
    }
}

fn summary_row(rung: &RungReport) -> [String; 9] {
    let fault = match (rung.failed_ratio, rung.fault.as_str()) {
        (Some(_), fault) if !fault.is_empty() => format!("{fault}: {}", figure::failed(rung)),
        _ => figure::failed(rung),
    };
    [
        format!("{} {}", rung.rung, rung.title),
        format!("{} /s", figure::count(rung.capacity)),
        figure::theory(rung),
        figure::trust(rung),
        figure::users(rung.daily_users),
        format!("{} ms", figure::milliseconds(rung.p99_ms)),
        fault,
        rung.nodes.to_string(),
        format!("{:.2}", rung.cpu_cores),
    ]
}

fn facts(facts: &[Fact]) -> String {
    facts.iter().map(|fact| format!("{} = {}", fact.name, fact.value)).collect::<Vec<_>>().join("; ")
}

/// A table in columns of equal width; the first is aligned left, and so is every other whose cells are words.
pub(super) fn to_text(table: &Table) -> String {
    let columns = table.columns.len();
    let cell = |row: &[String], column: usize| row.get(column).map_or("", |cell| cell.as_str()).to_owned();
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let cells = table.rows.iter().map(|row| cell(row, column).chars().count());
            cells.chain([table.columns[column].chars().count()]).max().unwrap_or(0)
        })
        .collect();
    let lines = std::iter::once(&table.columns).chain(&table.rows);
    let mut text = String::new();
    for line in lines {
        let mut out = String::new();
        for (column, width) in widths.iter().enumerate() {
            let content = cell(line, column);
            let gap = " ".repeat(width - content.chars().count());
            if column > 0 {
                out.push_str("  ");
            }
            if column > 0 && is_numeric(table, column) {
                let _ = write!(out, "{gap}{content}");
            } else {
                let _ = write!(out, "{content}{gap}");
            }
        }
        text.push_str(out.trim_end());
        text.push('\n');
    }
    text
}

/// Whether a column holds figures: every cell begins with a digit, a sign or a dash, and none reads on as a sentence.
pub(super) fn is_numeric(table: &Table, column: usize) -> bool {
    let mut cells = table.rows.iter().filter_map(|row| row.get(column)).filter(|cell| !cell.is_empty());
    cells.all(|cell| {
        let begins = cell.starts_with(|c: char| c.is_ascii_digit() || "+-–−<>≤≥≈×".contains(c));
        begins && cell.split_whitespace().count() <= 3
    })
}
