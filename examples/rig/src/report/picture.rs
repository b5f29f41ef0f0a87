//! Two pictures: the architecture of a rung, and what the whole climb reached.

use super::svg::{Anchor, Svg};
use super::{Report, RungReport, TierView, figure};

/// Most boxes drawn in one tier.
const MAX_BOXES: usize = 6;
const BOX_HEIGHT: f64 = 28.0;
const BOX_PITCH: f64 = 38.0;
/// Mean width of a letter at the pictures' font size, for fitting names into boxes.
const LETTER: f64 = 7.2;

/// The tiers from left to right, a box a process, clients first.
pub(super) fn architecture(tiers: &[TierView]) -> Svg {
    let width = 480.0;
    let mut columns = vec![("", vec!["clients".to_owned()])];
    columns.extend(tiers.iter().map(|tier| (tier.label.as_str(), boxes(tier))));
    let tallest = columns.iter().map(|(_, boxes)| boxes.len()).max().unwrap_or(1) as f64;
    let height = 30.0 + tallest * BOX_PITCH;
    let pitch = width / columns.len() as f64;
    let box_width = (pitch - 30.0).clamp(24.0, 116.0);
    let middle_x = |column: usize| pitch * (column as f64 + 0.5);
    let middle_y = |count: usize, at: usize| {
        let first = 22.0 + (tallest - count as f64) * BOX_PITCH / 2.0;
        first + at as f64 * BOX_PITCH + BOX_PITCH / 2.0
    };
    let mut svg = Svg::new(width, height);
    for column in 1..columns.len() {
        let (left, right) = (columns[column - 1].1.len(), columns[column].1.len());
        for (from, to) in (0..left).flat_map(|from| (0..right).map(move |to| (from, to))) {
            let start = (middle_x(column - 1) + box_width / 2.0, middle_y(left, from));
            let end = (middle_x(column) - box_width / 2.0, middle_y(right, to));
            svg.line("arrow", start, end);
        }
    }
    for (column, (label, boxes)) in columns.iter().enumerate() {
        svg.text("", (middle_x(column), 14.0), Anchor::Middle, &fit(label, pitch));
        for (at, name) in boxes.iter().enumerate() {
            let (x, y) = (middle_x(column), middle_y(boxes.len(), at));
            let radius = if column == 0 { BOX_HEIGHT / 2.0 } else { 5.0 };
            svg.rect("box", (x - box_width / 2.0, y - BOX_HEIGHT / 2.0), (box_width, BOX_HEIGHT), radius);
            svg.text("ink", (x, y + 4.5), Anchor::Middle, &fit(name, box_width));
        }
    }
    svg
}

/// What [`architecture`] shows, in words.
pub(super) fn describe(tiers: &[TierView]) -> String {
    let tiers: Vec<String> = tiers.iter().map(|tier| format!("{} ({})", tier.label, tier.nodes.join(", "))).collect();
    format!("Clients, then {}", tiers.join(", then "))
}

/// A bar a rung, with theory's mark and the daily users.
pub(super) fn climb(report: &Report) -> Svg {
    let (width, row, top, left, right) = (880.0, 40.0, 74.0, 232.0, 640.0);
    let mut svg = Svg::new(width, top + row * report.rungs.len() as f64 + 44.0);
    let head = format!("Capacity with p99 within {} ms", figure::significant(report.p99_bound_ms));
    svg.text("head", (20.0, 30.0), Anchor::Start, &head);
    svg.text(
        "",
        (20.0, 50.0),
        Anchor::Start,
        "requests a second, measured; the upright mark is what queueing theory allows",
    );
    let longest = report.rungs.iter().map(reach).fold(1.0, f64::max);
    let x = |rate: f64| left + (right - left) * (rate / longest).clamp(0.0, 1.0);
    for (at, rung) in report.rungs.iter().enumerate() {
        let y = top + row * at as f64;
        svg.text("ink", (20.0, y + 18.0), Anchor::Start, &fit(&format!("{}  {}", rung.rung, rung.title), left - 20.0));
        svg.rect("track", (left, y + 4.0), (right - left, 20.0), 3.0);
        let class = if rung.suspect { "bar-suspect" } else { "bar" };
        svg.rect(class, (left, y + 4.0), (x(rung.capacity) - left, 20.0), 3.0);
        if let Some(theory) = rung.theory.filter(|theory| theory.is_finite()) {
            svg.line("mark", (x(theory), y), (x(theory), y + 28.0));
        }
        svg.text("strong", (right + 12.0, y + 19.0), Anchor::Start, &format!("{} /s", figure::count(rung.capacity)));
        let users = format!("≈ {} daily users", figure::users(rung.daily_users));
        svg.text("", (width - 20.0, y + 19.0), Anchor::End, &users);
    }
    let note = format!(
        "{}daily users = rate × 86400 ÷ ({} requests a day × peak {})",
        if report.cost.is_empty() { "" } else { "service times are modelled, everything else is real · " },
        figure::significant(report.users.requests_per_user_day),
        figure::significant(report.users.peak_factor)
    );
    svg.text("", (20.0, top + row * report.rungs.len() as f64 + 24.0), Anchor::Start, &note);
    svg
}

/// The larger of measured and theory: what a bar's row must hold.
pub(super) fn reach(rung: &RungReport) -> f64 {
    let theory = rung.theory.filter(|theory| theory.is_finite()).unwrap_or(0.0);
    if rung.capacity.is_finite() { rung.capacity.max(theory) } else { theory }
}

fn boxes(tier: &TierView) -> Vec<String> {
    if tier.nodes.len() <= MAX_BOXES {
        return tier.nodes.clone();
    }
    let shown = MAX_BOXES - 1;
    let mut boxes = tier.nodes[..shown].to_vec();
    boxes.push(format!("+ {} more", tier.nodes.len() - shown));
    boxes
}

/// The name, cut short where it would not fit.
fn fit(name: &str, width: f64) -> String {
    let room = ((width - 8.0) / LETTER).max(1.0) as usize;
    if name.chars().count() <= room {
        return name.to_owned();
    }
    name.chars().take(room.saturating_sub(1)).chain(['…']).collect()
}
