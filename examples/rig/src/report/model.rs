//! What a run of the climb found out, as data.
//!
//! One [`Report`] feeds every renderer: the terminal table, `report.md`, `report.json`, `report.html` and the pictures.
//! Figures that follow from others (ratio to theory, spread, daily users) are computed in one place, [`Report::push`], so
//! no two renderers can disagree. The JSON shape is a surface that other programs read: fields are added, never renamed.

use serde::{Deserialize, Serialize};

use crate::capacity;

/// Lowest measured ÷ theory that is still believed.
pub const LOWEST_RATIO: f64 = 0.80;
/// Highest measured ÷ theory that is still believed.
pub const HIGHEST_RATIO: f64 = 1.05;

/// Everything one run of the climb found out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// The rungs climbed, in order. Filled by [`Report::push`].
    pub rungs: Vec<RungReport>,
    /// The bound on the 99th percentile that defines capacity, in milliseconds.
    pub p99_bound_ms: f64,
    /// How requests become users.
    pub users: UserModel,
    /// The machine and how busy the harness kept it, one fact a line.
    pub machine: Vec<Fact>,
    /// Every modelled quantity, one fact a line. Empty with `--cost real`.
    pub cost: Vec<Fact>,
    /// Where the keys of the requests come from, in one sentence.
    pub workload: String,
    /// `full`, `quick`, or what else the run was asked for.
    pub mode: String,
    /// The seed that repeats the run.
    pub seed: u64,
    /// The commit measured, where known.
    pub commit: Option<String>,
    /// When the run started, as the caller wants it printed.
    pub started: Option<String>,
    /// Length of the whole run in seconds.
    pub elapsed_s: f64,
    /// Whether other load was on the machine: such a report claims nothing.
    pub noisy: bool,
}

impl Report {
    /// Adds a rung and computes what follows from its figures: ratio, spread, suspicion and daily users.
    ///
    /// Figures that are not finite, which JSON cannot hold, become 0; points of a curve with such a figure are left out.
    pub fn push(&mut self, mut rung: RungReport) {
        rung.make_finite();
        rung.ratio = rung.theory.filter(|theory| *theory > 0.0).map(|theory| rung.capacity / theory);
        rung.suspect = rung.ratio.is_some_and(|ratio| !(LOWEST_RATIO..=HIGHEST_RATIO).contains(&ratio));
        rung.spread = spread(&rung.repeats);
        rung.daily_users = self.users.daily_users(rung.capacity);
        self.rungs.push(rung);
    }

    /// Whether every claim holds and no rung is suspect.
    ///
    /// A run that climbed nothing proved nothing, so it is not accepted either.
    pub fn is_accepted(&self) -> bool {
        !self.rungs.is_empty() && self.rungs.iter().all(RungReport::is_accepted)
    }

    /// The claims of all rungs with the rung that made them.
    pub fn claims(&self) -> impl Iterator<Item = (&RungReport, &Claim)> {
        self.rungs.iter().flat_map(|rung| rung.claims.iter().map(move |claim| (rung, claim)))
    }
}

/// How a request rate becomes a number of daily users: arithmetic that a reader can attack.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct UserModel {
    /// Requests one user makes in a day.
    pub requests_per_user_day: f64,
    /// Peak rate ÷ mean rate over the day.
    pub peak_factor: f64,
}

impl UserModel {
    /// Daily users that a peak rate of `rate` requests a second serves: rate × 86400 ÷ (requests × peak).
    pub fn daily_users(&self, rate: f64) -> f64 {
        let per_user = self.requests_per_user_day * self.peak_factor;
        if per_user > 0.0 { rate * 86_400.0 / per_user } else { 0.0 }
    }
}

impl Default for UserModel {
    fn default() -> Self {
        Self { requests_per_user_day: 20.0, peak_factor: 3.0 }
    }
}

/// A name and a value, printed as given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Fact {
    /// What it is.
    pub name: String,
    /// Its value, with its unit.
    pub value: String,
}

impl Fact {
    /// A fact of these two texts.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into() }
    }
}

/// What one rung showed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RungReport {
    /// Two digits: `01`.
    pub rung: String,
    /// What the rung adds, for people: `single server`.
    pub title: String,
    /// What changed and why, in a sentence or two.
    pub summary: String,
    /// The program that does the work, where the rung runs on more than one.
    pub engine: Option<String>,
    /// Measured capacity, requests a second: the median of `repeats`.
    pub capacity: f64,
    /// Capacity by queueing theory, where the rung has a model.
    pub theory: Option<f64>,
    /// Measured ÷ theory. Computed.
    pub ratio: Option<f64>,
    /// Whether the ratio is outside 0.80 to 1.05: the harness is then in doubt, not the theory. Computed.
    pub suspect: bool,
    /// The capacities measured, one a repeat.
    pub repeats: Vec<f64>,
    /// (largest − smallest) ÷ median of the repeats. Computed.
    pub spread: f64,
    /// Median latency at capacity, milliseconds.
    pub p50_ms: f64,
    /// 99th percentile of latency at capacity, milliseconds.
    pub p99_ms: f64,
    /// The fault injected: `kill -9 web`.
    pub fault: String,
    /// Share of requests that failed under the fault.
    pub failed_ratio: Option<f64>,
    /// The same without the cure this rung brings.
    pub control_failed_ratio: Option<f64>,
    /// Processes, without the load generator.
    pub nodes: u32,
    /// Cores kept busy by the nodes at capacity.
    pub cpu_cores: f64,
    /// Share of the machine that was busy, load generator included, 0 to 1.
    pub harness_cpu_ratio: f64,
    /// Resident memory of all nodes together, bytes.
    pub rss_bytes: u64,
    /// Daily users the capacity serves. Computed.
    pub daily_users: f64,
    /// The architecture, one entry a tier, in the order a request meets them.
    pub tiers: Vec<TierView>,
    /// Latency against offered load: the first is the rung itself, others are variants measured beside it.
    pub curves: Vec<Curve>,
    /// What the rung claims, each with its control.
    pub claims: Vec<Claim>,
    /// Further tables.
    pub tables: Vec<Table>,
    /// What the rung does not show, printed with it.
    pub limits: Vec<String>,
    /// Lines worth reading: a resolved name, a request, an answer.
    pub transcript: Vec<String>,
}

impl RungReport {
    /// A rung with its number and title; fill in the rest.
    pub fn new(rung: impl Into<String>, title: impl Into<String>) -> Self {
        Self { rung: rung.into(), title: title.into(), ..Self::default() }
    }

    fn make_finite(&mut self) {
        for figure in
            [&mut self.capacity, &mut self.p50_ms, &mut self.p99_ms, &mut self.cpu_cores, &mut self.harness_cpu_ratio]
        {
            if !figure.is_finite() {
                *figure = 0.0;
            }
        }
        for figure in [&mut self.theory, &mut self.failed_ratio, &mut self.control_failed_ratio] {
            *figure = figure.filter(|figure| figure.is_finite());
        }
        self.repeats.retain(|capacity| capacity.is_finite());
        for curve in &mut self.curves {
            curve.capacity = curve.capacity.filter(|capacity| capacity.is_finite());
            for points in [&mut curve.measured, &mut curve.theory] {
                points.retain(|point| {
                    [point.rate, point.p50_ms, point.p99_ms, point.failed_ratio].iter().all(|figure| figure.is_finite())
                });
            }
        }
        for claim in &mut self.claims {
            for value in [Some(&mut claim.value), claim.control.as_mut()].into_iter().flatten() {
                if matches!(value, Value::Number(number) if !number.is_finite()) {
                    *value = Value::Text("no figure".to_owned());
                }
            }
        }
    }

    /// Whether every claim holds and the measurement is believed.
    pub fn is_accepted(&self) -> bool {
        !self.suspect && self.claims.iter().all(|claim| claim.verdict == Verdict::Pass)
    }
}

/// One tier of the architecture: boxes side by side.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TierView {
    /// What the tier is: `web`.
    pub label: String,
    /// Its processes, each named: `web-1`. More than six are drawn as a count.
    pub nodes: Vec<String>,
}

impl TierView {
    /// A tier of these nodes.
    pub fn new<S: Into<String>>(label: impl Into<String>, nodes: impl IntoIterator<Item = S>) -> Self {
        Self { label: label.into(), nodes: nodes.into_iter().map(Into::into).collect() }
    }
}

/// Latency against offered load, measured and by theory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Curve {
    /// What was loaded, or the variant's name.
    pub label: String,
    /// Measured points, by rising rate.
    pub measured: Vec<Point>,
    /// Points of the model, by rising rate.
    pub theory: Vec<Point>,
    /// Capacity of this variant, requests a second.
    pub capacity: Option<f64>,
}

/// One point of a curve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Point {
    /// Offered load, requests a second.
    pub rate: f64,
    /// Median latency, milliseconds.
    pub p50_ms: f64,
    /// 99th percentile of latency, milliseconds.
    pub p99_ms: f64,
    /// Share of requests that failed.
    pub failed_ratio: f64,
}

impl From<capacity::CurvePoint> for Point {
    fn from(point: capacity::CurvePoint) -> Self {
        Self { rate: point.rate, p50_ms: point.p50_ms, p99_ms: point.p99_ms, failed_ratio: point.failed_ratio }
    }
}

/// A statement with the figure behind it and the figure of its negative control.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// The ledger row: `r06`.
    pub id: String,
    /// The statement.
    pub text: String,
    /// The figure.
    pub value: Value,
    /// The same figure without what is claimed to help.
    pub control: Option<Value>,
    /// Unit of both, may be empty.
    pub unit: String,
    /// Whether it holds.
    pub verdict: Verdict,
    /// The condition and anything a reader must know.
    pub note: String,
}

impl Claim {
    /// A claim that passes if `holds`.
    pub fn new(id: impl Into<String>, text: impl Into<String>, value: impl Into<Value>, holds: bool) -> Self {
        Self {
            id: id.into(),
            text: text.into(),
            value: value.into(),
            control: None,
            unit: String::new(),
            verdict: if holds { Verdict::Pass } else { Verdict::Fail },
            note: String::new(),
        }
    }

    /// Sets the figure of the negative control.
    #[must_use]
    pub fn control(mut self, control: impl Into<Value>) -> Self {
        self.control = Some(control.into());
        self
    }

    /// Sets the unit of value and control.
    #[must_use]
    pub fn unit(mut self, unit: impl Into<String>) -> Self {
        self.unit = unit.into();
        self
    }

    /// Sets the note.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }
}

/// A figure or a word.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// A figure.
    Number(f64),
    /// A word or a phrase.
    Text(String),
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(number as f64)
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Number(f64::from(number))
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::Number(number as f64)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// Whether a claim holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It holds.
    Pass,
    /// It does not.
    #[default]
    Fail,
}

/// A table of texts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Table {
    /// What it shows.
    pub title: String,
    /// Column headings.
    pub columns: Vec<String>,
    /// Rows of cells, each as long as `columns`.
    pub rows: Vec<Vec<String>>,
    /// How it was made, or how to read it; may be empty.
    pub note: String,
}

impl Table {
    /// An empty table with these columns.
    pub fn new<S: Into<String>>(title: impl Into<String>, columns: impl IntoIterator<Item = S>) -> Self {
        Self { title: title.into(), columns: columns.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// Adds a row of cells.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) -> &mut Self {
        self.rows.push(cells.into_iter().map(Into::into).collect());
        self
    }
}

/// (largest − smallest) ÷ median; 0 for fewer than two values.
fn spread(repeats: &[f64]) -> f64 {
    if repeats.len() < 2 {
        return 0.0;
    }
    let mut sorted = repeats.to_vec();
    sorted.sort_by(f64::total_cmp);
    let median = (sorted[(sorted.len() - 1) / 2] + sorted[sorted.len() / 2]) / 2.0;
    if median > 0.0 { (sorted[sorted.len() - 1] - sorted[0]) / median } else { 0.0 }
}
