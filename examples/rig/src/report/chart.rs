//! Latency against offered load: what was measured, what theory says, and the bound that defines capacity.

use super::svg::{Anchor, Svg};
use super::{Curve, Point, figure};

const WIDTH: f64 = 484.0;
const HEIGHT: f64 = 324.0;
const LEFT: f64 = 42.0;
const RIGHT: f64 = 366.0;
const TOP: f64 = 56.0;
const BOTTOM: f64 = 276.0;
/// Class, name, points and figure of each line, those below first.
type Series = (&'static str, &'static str, fn(&Curve) -> &[Point], fn(&Point) -> f64);
const SERIES: [Series; 3] = [
    ("theory", "p99 theory", |curve| &curve.theory, |point| point.p99_ms),
    ("p50", "p50 measured", |curve| &curve.measured, |point| point.p50_ms),
    ("p99", "p99 measured", |curve| &curve.measured, |point| point.p99_ms),
];
/// Least distance of two labels beside the plot.
const LABEL_GAP: f64 = 16.0;

/// Draws a curve; `bound_ms` is the bound on the 99th percentile.
pub(super) fn draw(curve: &Curve, bound_ms: f64) -> Svg {
    let plot = Plot::around(curve, bound_ms);
    let mut svg = Svg::new(WIDTH, HEIGHT);
    svg.text("head", (4.0, 18.0), Anchor::Start, &curve.label);
    axes(&mut svg, &plot);
    bound(&mut svg, &plot, curve, bound_ms);
    let mut ends = Vec::new();
    for (class, text, points, ms) in SERIES {
        let lines = plot.lines(points(curve), ms);
        for line in &lines {
            svg.polyline(&format!("{class}-line"), line);
        }
        let last = lines.iter().rev().find_map(|line| line.last());
        ends.extend(last.map(|end| (class, text, *end)));
    }
    for point in &curve.measured {
        plot.dot(&mut svg, "p50-dot", "p50", point, point.p50_ms);
        plot.dot(&mut svg, "p99-dot", "p99", point, point.p99_ms);
    }
    labels(&mut svg, ends);
    svg
}

/// What the picture shows, in a sentence for who cannot see it.
pub(super) fn describe(curve: &Curve, bound_ms: f64) -> String {
    let capacity = curve.capacity.map_or(String::new(), |capacity| {
        format!(
            ", which keeps p99 within {} ms up to {} requests/s",
            figure::significant(bound_ms),
            figure::count(capacity)
        )
    });
    format!("Latency against offered load of {}{capacity}", curve.label)
}

/// The scales of a plot.
struct Plot {
    max_rate: f64,
    max_ms: f64,
}

impl Plot {
    fn around(curve: &Curve, bound_ms: f64) -> Self {
        let rates = curve.measured.iter().chain(&curve.theory).map(|point| point.rate).chain(curve.capacity);
        let max_rate = rates.filter(|rate| rate.is_finite()).fold(0.0, f64::max);
        let slowest = curve.measured.iter().map(|point| point.p99_ms).filter(|ms| ms.is_finite()).fold(0.0, f64::max);
        let max_ms = if bound_ms > 0.0 { 2.0 * bound_ms } else { slowest };
        Self {
            max_rate: if max_rate > 0.0 { max_rate * 1.03 } else { 1.0 },
            max_ms: if max_ms > 0.0 { max_ms } else { 1.0 },
        }
    }

    fn x(&self, rate: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * (rate / self.max_rate).clamp(0.0, 1.0)
    }

    fn y(&self, ms: f64) -> f64 {
        BOTTOM - (BOTTOM - TOP) * (ms / self.max_ms).clamp(0.0, 1.0)
    }

    /// The line through the points, in pieces: what lies above the plot is cut off.
    fn lines(&self, points: &[Point], ms: impl Fn(&Point) -> f64) -> Vec<Vec<(f64, f64)>> {
        let mut lines = Vec::new();
        let mut line = Vec::new();
        let mut before: Option<(f64, f64)> = None;
        for point in points.iter().filter(|point| point.rate.is_finite()) {
            let at = (point.rate, ms(point));
            let (was_in, is_in) = (before.is_some_and(|(_, ms)| ms <= self.max_ms), at.1 <= self.max_ms);
            if let Some(before) = before
                && was_in != is_in
            {
                line.push((self.x(self.rate_at_top(before, at)), TOP));
            }
            if is_in {
                line.push((self.x(at.0), self.y(at.1)));
            } else if !line.is_empty() {
                lines.push(std::mem::take(&mut line));
            }
            before = Some(at);
        }
        lines.push(line);
        lines
    }

    /// Where the line between two points, one of them above the plot, meets its top; an endless latency rises upright.
    fn rate_at_top(&self, from: (f64, f64), to: (f64, f64)) -> f64 {
        let share = (self.max_ms - from.1) / (to.1 - from.1);
        if share.is_finite() {
            return from.0 + (to.0 - from.0) * share;
        }
        if from.1 <= self.max_ms { from.0 } else { to.0 }
    }

    fn dot(&self, svg: &mut Svg, class: &str, what: &str, point: &Point, ms: f64) {
        if ms <= self.max_ms && point.rate.is_finite() {
            let title = format!(
                "{} requests/s: {what} {} ms, failed {}",
                figure::count(point.rate),
                figure::milliseconds(ms),
                figure::percent(point.failed_ratio)
            );
            svg.dot(class, (self.x(point.rate), self.y(ms)), 3.2, &title);
        }
    }
}

fn axes(svg: &mut Svg, plot: &Plot) {
    svg.text("", (4.0, TOP - 16.0), Anchor::Start, "latency, ms");
    svg.text("", ((LEFT + RIGHT) / 2.0, BOTTOM + 38.0), Anchor::Middle, "offered load, requests/s");
    for ms in ticks(plot.max_ms, 6) {
        let y = plot.y(ms);
        svg.line(if ms == 0.0 { "axis" } else { "grid" }, (LEFT, y), (RIGHT, y));
        svg.text("", (LEFT - 7.0, y + 4.0), Anchor::End, &figure::significant(ms));
    }
    for rate in ticks(plot.max_rate, 5) {
        let x = plot.x(rate);
        svg.line("axis", (x, BOTTOM), (x, BOTTOM + 4.0));
        svg.text("", (x, BOTTOM + 18.0), Anchor::Middle, &figure::significant(rate));
    }
}

/// The bound, and where the curve meets it.
fn bound(svg: &mut Svg, plot: &Plot, curve: &Curve, bound_ms: f64) {
    if bound_ms <= 0.0 {
        return;
    }
    let y = plot.y(bound_ms);
    svg.line("bound-line", (LEFT, y), (RIGHT, y));
    let text = format!("p99 ≤ {} ms", figure::significant(bound_ms));
    svg.text("bound-text", (LEFT + 6.0, y - 6.0), Anchor::Start, &text);
    if let Some(capacity) = curve.capacity.filter(|capacity| *capacity > 0.0) {
        let x = plot.x(capacity);
        svg.line("capacity-line", (x, y), (x, BOTTOM));
        let text = format!("capacity {} /s", figure::count(capacity));
        // Beside the bound's own label, or above it where there is no room.
        let up = if x - LEFT > 270.0 { 6.0 } else { 24.0 };
        let (x, anchor) = if x - LEFT > 110.0 { (x - 6.0, Anchor::End) } else { (LEFT + 6.0, Anchor::Start) };
        svg.text("strong", (x, y - up), anchor, &text);
    }
}

/// Names each line at its end, in the line's colour, no two on top of each other.
fn labels(svg: &mut Svg, mut ends: Vec<(&str, &str, (f64, f64))>) {
    ends.sort_by(|(.., a), (.., b)| a.1.total_cmp(&b.1).then(a.0.total_cmp(&b.0)));
    let mut places: Vec<f64> = ends.iter().map(|(_, _, (_, y))| y + 4.0).collect();
    for at in 1..places.len() {
        places[at] = places[at].max(places[at - 1] + LABEL_GAP);
    }
    let overhang = places.last().map_or(0.0, |last| (last - BOTTOM).max(0.0));
    for ((class, text, (x, y)), place) in ends.into_iter().zip(places) {
        let place = place - overhang;
        svg.line("leader", (x + 5.0, y), (RIGHT + 6.0, place - 4.0));
        svg.text(&format!("{class}-text"), (RIGHT + 10.0, place), Anchor::Start, text);
    }
}

/// Round values from 0 to at most `max`, about `count` of them.
fn ticks(max: f64, count: u32) -> Vec<f64> {
    let raw = max / f64::from(count);
    let decade = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|factor| factor * decade).into_iter().find(|step| *step >= raw * 0.999);
    let step = step.unwrap_or(raw);
    (0..=count * 2).map(|tick| f64::from(tick) * step).take_while(|tick| *tick <= max * 1.0001).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within() {
        assert_eq!(ticks(300.0, 6), [0.0, 50.0, 100.0, 150.0, 200.0, 250.0, 300.0]);
        assert_eq!(ticks(173.0, 5), [0.0, 50.0, 100.0, 150.0]);
        assert_eq!(ticks(1.0, 5).len(), 6);
    }

    #[test]
    fn lines_are_cut_where_they_leave_the_plot_and_taken_up_where_they_return() {
        let plot = Plot { max_rate: 100.0, max_ms: 100.0 };
        let point = |rate, p99_ms| Point { rate, p99_ms, ..Point::default() };
        let points = [point(0.0, 0.0), point(20.0, 200.0), point(40.0, 0.0), point(60.0, f64::INFINITY)];
        let lines = plot.lines(&points, |point| point.p99_ms);
        let (x, top) = (|rate| plot.x(rate), TOP);
        let expected =
            [vec![(x(0.0), BOTTOM), (x(10.0), top)], vec![(x(30.0), top), (x(40.0), BOTTOM), (x(40.0), top)], vec![]];
        assert_eq!(lines, expected);
    }

    #[test]
    fn odd_points_draw_a_picture_all_the_same() {
        let point = |rate, p99_ms| Point { rate, p50_ms: 5.0, p99_ms, failed_ratio: 0.0 };
        let points = [point(0.0, f64::NAN), point(f64::NAN, 1.0), point(50.0, 60.0), point(100.0, f64::INFINITY)];
        for measured in [points.to_vec(), Vec::new(), vec![point(1.0, 1e9)]] {
            let curve = Curve { label: "odd".into(), measured, theory: Vec::new(), capacity: Some(0.0) };
            for bound_ms in [0.0, 150.0] {
                let svg = draw(&curve, bound_ms).into_file("odd");
                assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            }
        }
    }
}
