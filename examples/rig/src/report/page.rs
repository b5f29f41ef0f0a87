//! The report as one HTML page that needs nothing else: no script, no font, no request to anywhere.

use std::fmt::Write as _;

use super::svg::escape;
use super::{Fact, Report, RungReport, Table, Value, Verdict, chart, figure, picture, text};

const PAGE_STYLE: &str = include_str!("page.css");
const PICTURE_STYLE: &str = include_str!("picture.css");

impl Report {
    /// The whole report as a page.
    pub fn to_html(&self) -> String {
        let mut out = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n<title>tenfold: the climb</title>\n\
             <style>\n{PAGE_STYLE}{PICTURE_STYLE}</style>\n</head>\n<body>\n<main>\n"
        );
        self.header(&mut out);
        self.bars(&mut out);
        self.honesty(&mut out);
        for rung in &self.rungs {
            self.rung(&mut out, rung);
        }
        self.footer(&mut out);
        out.push_str("</main>\n</body>\n</html>\n");
        out
    }

    fn header(&self, out: &mut String) {
        out.push_str("<header>\n<p class=\"brand\">tenfold · the climb</p>\n");
        let _ = writeln!(out, "<h1>{}</h1>", self.headline());
        if self.noisy {
            out.push_str("<p class=\"banner\">Other load was on the machine: nothing here is a claim.</p>\n");
        }
        let failed = self.claims().filter(|(_, claim)| claim.verdict == Verdict::Fail).count();
        let total = self.claims().count();
        let suspect = self.rungs.iter().filter(|rung| rung.suspect).count();
        out.push_str("<ul class=\"badges\">\n");
        let _ = writeln!(out, "<li class=\"{}\">{} of {total} claims hold</li>", good(failed == 0), total - failed);
        let trust = match suspect {
            0 => "every rung agrees with theory".to_owned(),
            1 => "1 rung is suspect".to_owned(),
            more => format!("{more} rungs are suspect"),
        };
        let _ = writeln!(out, "<li class=\"{}\">{trust}</li>", good(suspect == 0));
        let mut plain = vec![format!("seed {}", self.seed)];
        plain.extend((!self.mode.is_empty()).then(|| format!("{} run", self.mode)));
        plain.extend((self.elapsed_s > 0.0).then(|| format!("{} s", figure::count(self.elapsed_s))));
        plain.extend(self.commit.as_ref().map(|commit| format!("commit {commit}")));
        plain.extend(self.started.clone());
        for item in plain {
            let _ = writeln!(out, "<li>{}</li>", escape(&item));
        }
        out.push_str("</ul>\n</header>\n");
    }

    fn headline(&self) -> String {
        let (Some(first), Some(last)) = (self.rungs.first(), self.rungs.last()) else {
            return "Nothing was climbed".to_owned();
        };
        let bound = figure::significant(self.p99_bound_ms);
        if self.rungs.len() == 1 {
            return format!("{} requests/s with p99 within {bound} ms", figure::count(first.capacity));
        }
        format!(
            "From {} to {} requests/s with p99 within {bound} ms",
            figure::count(first.capacity),
            figure::count(last.capacity)
        )
    }

    fn bars(&self, out: &mut String) {
        let longest = self.rungs.iter().map(picture::reach).fold(1.0, f64::max);
        let share = |rate: f64| (rate / longest * 100.0).clamp(0.0, 100.0);
        out.push_str("<section>\n<h2>What each rung carries</h2>\n");
        out.push_str(
            "<p class=\"lede\">Capacity in requests a second. The bar is measured, <span class=\"mark-key\"></span> is \
             what queueing theory allows for the same nodes.</p>\n<div class=\"bars\">\n",
        );
        for rung in &self.rungs {
            let class = if rung.suspect { "bar suspect" } else { "bar" };
            let (rate, users) = (figure::count(rung.capacity), figure::users(rung.daily_users));
            let _ = write!(
                out,
                "<a class=\"row\" href=\"#rung-{0}\"><span class=\"name\"><b>{0}</b> {1}</span>\
                 <span class=\"track\"><span class=\"{class}\" style=\"width:{2:.2}%\"></span>",
                escape(&rung.rung),
                escape(&rung.title),
                share(rung.capacity)
            );
            if let Some(theory) = rung.theory.filter(|theory| theory.is_finite()) {
                let at = share(theory);
                let title = format!("theory: {} /s", figure::count(theory));
                let _ = write!(out, "<span class=\"mark\" style=\"left:{at:.2}%\" title=\"{title}\"></span>");
            }
            let _ = writeln!(
                out,
                "</span><span class=\"rate\">{rate}<small> /s</small></span><span class=\"users\">≈ {users} daily users</span></a>"
            );
        }
        out.push_str("</div>\n");
        table(out, &self.summary_table());
        out.push_str("</section>\n");
    }

    fn honesty(&self, out: &mut String) {
        out.push_str("<section class=\"pair\">\n<div class=\"box modelled\">\n<h2>Modelled</h2>\n");
        if self.cost.is_empty() {
            out.push_str("<p>Nothing: this run shows what the machine itself does.</p>\n");
        } else {
            out.push_str("<p>Service times that the harness adds on purpose, so that a few cores can stand for many machines:</p>\n");
            facts(out, &self.cost);
        }
        let _ = writeln!(
            out,
            "<p>Daily users = rate × 86,400 ÷ ({} requests a user and day × peak factor {}).</p>\n</div>",
            figure::significant(self.users.requests_per_user_day),
            figure::significant(self.users.peak_factor)
        );
        out.push_str(
            "<div class=\"box measured\">\n<h2>Measured</h2>\n<p>Everything else: processes, sockets, SQL on disk, \
             caches, crashes. Load is open loop; latency counts from the instant a request was due.</p>\n",
        );
        facts(out, &self.machine);
        if !self.workload.is_empty() {
            let _ = writeln!(out, "<p>Requests: {}.</p>", escape(&self.workload));
        }
        out.push_str("</div>\n</section>\n");
    }

    fn rung(&self, out: &mut String, rung: &RungReport) {
        let (number, title) = (escape(&rung.rung), escape(&rung.title));
        let _ = writeln!(out, "<section class=\"rung\" id=\"rung-{number}\">\n<h2><b>{number}</b> {title}</h2>");
        if !rung.summary.is_empty() {
            let _ = writeln!(out, "<p class=\"lede\">{}</p>", escape(&rung.summary));
        }
        if rung.suspect {
            out.push_str(
                "<p class=\"banner\">Harness suspect: measured and theory are too far apart to believe either.</p>\n",
            );
        }
        out.push_str("<dl class=\"figures\">\n");
        for (name, value, extra) in figures(rung) {
            // A figure and its percent sign stay on one line.
            let extra = escape(&extra.replace(" %", "\u{a0}%"));
            let extra = if extra.is_empty() { extra } else { format!("<small>{extra}</small>") };
            let _ = writeln!(out, "<div><dt>{name}</dt><dd>{}{extra}</dd></div>", escape(&value));
        }
        out.push_str("</dl>\n<div class=\"charts\">\n");
        if !rung.tiers.is_empty() {
            out.push_str("<figure>\n");
            out.push_str(&picture::architecture(&rung.tiers).into_inline(&picture::describe(&rung.tiers)));
            out.push_str("</figure>\n");
        }
        for curve in &rung.curves {
            let label = chart::describe(curve, self.p99_bound_ms);
            let _ = writeln!(out, "<figure>\n{}</figure>", chart::draw(curve, self.p99_bound_ms).into_inline(&label));
        }
        out.push_str("</div>\n");
        claims(out, rung);
        for extra in &rung.tables {
            let _ = writeln!(out, "<h3>{}</h3>", escape(&extra.title));
            table(out, extra);
            if !extra.note.is_empty() {
                let _ = writeln!(out, "<p class=\"note\">{}</p>", escape(&extra.note));
            }
        }
        if !rung.transcript.is_empty() {
            let lines = escape(&rung.transcript.join("\n"));
            let _ = writeln!(out, "<h3>Transcript</h3>\n<pre tabindex=\"0\">{lines}</pre>");
        }
        if !rung.limits.is_empty() {
            let limits: Vec<String> = rung.limits.iter().map(|limit| format!("<li>{}</li>", escape(limit))).collect();
            let _ = writeln!(
                out,
                "<div class=\"limits\"><h3>What this does not show</h3><ul>{}</ul></div>",
                limits.concat()
            );
        }
        out.push_str("</section>\n");
    }

    fn footer(&self, out: &mut String) {
        out.push_str(
            "<footer>\n<p>Theory: each node is an M/M/c queue (Erlang 1917), nodes in a row are independent (Burke 1956, \
             1968). A rung outside 0.80 to 1.05 of theory accuses the harness, not the theory. Each claim stands beside \
             the same figure without what is claimed to help.</p>\n</footer>\n",
        );
    }
}

fn good(is_good: bool) -> &'static str {
    if is_good { "good" } else { "bad" }
}

/// The key figures of a rung: name, value, and what qualifies it.
fn figures(rung: &RungReport) -> Vec<(&'static str, String, String)> {
    let spread = if rung.repeats.len() > 1 {
        format!("{} runs, spread {:.0} %", rung.repeats.len(), rung.spread * 100.0)
    } else {
        String::new()
    };
    let ratio = rung.ratio.map_or(String::new(), |ratio| format!("measured ÷ theory {ratio:.2}"));
    let mut figures = vec![
        ("capacity", format!("{} /s", figure::count(rung.capacity)), spread),
        ("theory", figure::theory(rung), ratio),
        ("p99 there", format!("{} ms", figure::milliseconds(rung.p99_ms)), {
            format!("p50 {} ms", figure::milliseconds(rung.p50_ms))
        }),
        ("daily users", format!("≈ {}", figure::users(rung.daily_users)), String::new()),
    ];
    if let Some(failed) = rung.failed_ratio {
        let control = rung.control_failed_ratio.map(|control| format!("control {}", figure::percent(control)));
        let under = (!rung.fault.is_empty()).then(|| format!("under {}", rung.fault));
        let extra: Vec<String> = under.into_iter().chain(control).collect();
        figures.push(("failed", figure::percent(failed), extra.join(", ")));
    }
    let harness = format!("machine {} busy", figure::percent(rung.harness_cpu_ratio));
    figures.push(("CPU cores", format!("{:.2}", rung.cpu_cores), harness));
    figures.push(("processes", rung.nodes.to_string(), figure::bytes(rung.rss_bytes)));
    figures
}

fn claims(out: &mut String, rung: &RungReport) {
    if rung.claims.is_empty() {
        return;
    }
    out.push_str("<h3>Claims</h3>\n<table class=\"claims\">\n<thead><tr><th>row</th><th>claim</th>");
    out.push_str("<th class=\"n\">figure</th><th class=\"n\">control</th><th>verdict</th></tr></thead>\n<tbody>\n");
    for claim in &rung.claims {
        let (class, word) = if claim.verdict == Verdict::Pass { ("good", "✓ pass") } else { ("bad", "✗ FAIL") };
        let note =
            if claim.note.is_empty() { String::new() } else { format!("<small>{}</small>", escape(&claim.note)) };
        let _ = writeln!(
            out,
            "<tr><td data-label=\"row\">{}</td><td data-label=\"claim\">{}{note}</td>\
             <td class=\"{}\" data-label=\"figure\">{}</td><td class=\"{}\" data-label=\"control\">{}</td>\
             <td data-label=\"verdict\"><span class=\"{class}\">{word}</span></td></tr>",
            escape(&claim.id),
            escape(&claim.text),
            alignment(Some(&claim.value)),
            escape(&figure::value(&claim.value, &claim.unit)),
            alignment(claim.control.as_ref()),
            escape(&figure::control(claim)),
        );
    }
    out.push_str("</tbody>\n</table>\n");
}

/// The class of a cell: figures are aligned right, words are wrapped.
fn alignment(value: Option<&Value>) -> &'static str {
    if matches!(value, Some(Value::Text(_))) { "w" } else { "n" }
}

fn table(out: &mut String, table: &Table) {
    let numeric: Vec<bool> = (0..table.columns.len()).map(|c| c > 0 && text::is_numeric(table, c)).collect();
    let class = |column: usize| if numeric.get(column) == Some(&true) { " class=\"n\"" } else { "" };
    out.push_str("<div class=\"scroll\" tabindex=\"0\"><table>\n<thead><tr>");
    for (column, name) in table.columns.iter().enumerate() {
        let _ = write!(out, "<th{}>{}</th>", class(column), escape(name));
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for row in &table.rows {
        out.push_str("<tr>");
        for (column, cell) in row.iter().enumerate() {
            let _ = write!(out, "<td{}>{}</td>", class(column), escape(cell));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody>\n</table></div>\n");
}

fn facts(out: &mut String, facts: &[Fact]) {
    if facts.is_empty() {
        return;
    }
    out.push_str("<dl class=\"facts\">\n");
    for fact in facts {
        let _ = writeln!(out, "<div><dt>{}</dt><dd>{}</dd></div>", escape(&fact.name), escape(&fact.value));
    }
    out.push_str("</dl>\n");
}
