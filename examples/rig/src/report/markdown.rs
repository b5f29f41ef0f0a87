//! The report as Markdown, for a commit or a discussion.

use std::fmt::Write as _;

use super::{Report, RungReport, Table, Verdict, figure, text};

impl Report {
    /// The whole report as Markdown.
    pub fn to_markdown(&self) -> String {
        let mut out = String::from("# The climb\n\n");
        if self.noisy {
            out.push_str("**Noisy: other load was on the machine; nothing here is a claim.**\n\n");
        }
        table(&mut out, &self.summary_table());
        let _ = writeln!(out, "\n{}\n", escape(&self.footnote()));
        if !self.workload.is_empty() {
            let _ = writeln!(out, "Requests: {}.\n", escape(&self.workload));
        }
        for fact in &self.machine {
            let _ = writeln!(out, "- {}: {}", escape(&fact.name), escape(&fact.value));
        }
        for rung in &self.rungs {
            section(&mut out, rung);
        }
        out
    }
}

fn section(out: &mut String, rung: &RungReport) {
    let _ = writeln!(out, "\n## {} {}\n", escape(&rung.rung), escape(&rung.title));
    if !rung.summary.is_empty() {
        let _ = writeln!(out, "{}\n", escape(&rung.summary));
    }
    if rung.suspect {
        out.push_str("**Harness suspect: measured and theory are too far apart.**\n\n");
    }
    if !rung.claims.is_empty() {
        let mut claims = Table::new("", ["row", "claim", "figure", "control", "verdict", "note"]);
        for claim in &rung.claims {
            let verdict = if claim.verdict == Verdict::Pass { "pass" } else { "**FAIL**" };
            let value = figure::value(&claim.value, &claim.unit);
            let control = figure::control(claim);
            claims.row([&claim.id, &claim.text, &value, &control, verdict, &claim.note].map(str::to_owned));
        }
        table(out, &claims);
    }
    for extra in &rung.tables {
        let _ = writeln!(out, "\n{}\n", escape(&extra.title));
        table(out, extra);
        if !extra.note.is_empty() {
            let _ = writeln!(out, "\n{}", escape(&extra.note));
        }
    }
    if !rung.transcript.is_empty() {
        // A fence longer than any in the lines cannot be closed by them.
        let longest = rung.transcript.iter().map(|line| longest_run_of_ticks(line)).max().unwrap_or(0);
        let fence = "`".repeat(longest.max(2) + 1);
        let _ = writeln!(out, "\n{fence}text\n{}\n{fence}", rung.transcript.join("\n"));
    }
    for limit in &rung.limits {
        let _ = writeln!(out, "\nLimit: {}", escape(limit));
    }
}

fn table(out: &mut String, table: &Table) {
    let cells = |cells: &[String]| cells.iter().map(|cell| escape(cell)).collect::<Vec<_>>().join(" | ");
    let _ = writeln!(out, "| {} |", cells(&table.columns));
    let rule = (0..table.columns.len()).map(
        |column| {
            if column > 0 && text::is_numeric(table, column) { "--:" } else { "---" }
        },
    );
    let _ = writeln!(out, "| {} |", rule.collect::<Vec<_>>().join(" | "));
    for row in &table.rows {
        let _ = writeln!(out, "| {} |", cells(row));
    }
}

/// Text that Markdown shows as it is: no markup, no table cell, no second line.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' => out.push(' '),
            '\\' | '`' | '*' | '_' | '|' | '<' | '[' | ']' => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out
}

fn longest_run_of_ticks(line: &str) -> usize {
    line.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}
