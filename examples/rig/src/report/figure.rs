//! How figures are written, the same in every form of the report.

use super::{Claim, RungReport, Value};

/// Stands where there is no figure.
pub(super) const NONE: &str = "–";

/// Requests a second, or any count: whole, with commas from five digits on.
pub(super) fn count(value: f64) -> String {
    if !value.is_finite() {
        return NONE.to_owned();
    }
    let whole = format!("{:.0}", value.abs());
    let sign = if value <= -0.5 { "-" } else { "" };
    if whole.len() < 5 {
        return format!("{sign}{whole}");
    }
    let mut grouped = String::new();
    for (at, digit) in whole.char_indices() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}")
}

/// Three significant digits, no needless zeros after the point.
pub(super) fn significant(value: f64) -> String {
    if !value.is_finite() {
        return NONE.to_owned();
    }
    if value == value.trunc() || value.abs() >= 100.0 {
        return count(value);
    }
    let decimals = if value.abs() >= 10.0 {
        1
    } else if value.abs() >= 1.0 {
        2
    } else {
        3
    };
    let text = format!("{value:.decimals$}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Milliseconds without their unit: whole from 10 on.
pub(super) fn milliseconds(value: f64) -> String {
    if value.is_finite() && value < 10.0 { format!("{value:.1}") } else { count(value) }
}

/// A share as percent: two decimals below 10, one above.
pub(super) fn percent(ratio: f64) -> String {
    let percent = ratio * 100.0;
    if !percent.is_finite() {
        NONE.to_owned()
    } else if percent < 10.0 {
        format!("{percent:.2} %")
    } else if percent < 100.0 {
        format!("{percent:.1} %")
    } else {
        "100 %".to_owned()
    }
}

/// Users: `940`, `225 k`, `1.37 M`.
pub(super) fn users(value: f64) -> String {
    if !value.is_finite() {
        NONE.to_owned()
    } else if value >= 999_500.0 {
        format!("{:.2} M", value / 1e6)
    } else if value >= 1000.0 {
        format!("{:.0} k", value / 1e3)
    } else {
        format!("{value:.0}")
    }
}

/// Bytes in binary units.
pub(super) fn bytes(value: u64) -> String {
    let mebibytes = value as f64 / f64::from(1 << 20);
    if mebibytes >= 1024.0 {
        format!("{:.2} GiB", mebibytes / 1024.0)
    } else if mebibytes >= 10.0 {
        format!("{mebibytes:.0} MiB")
    } else {
        format!("{mebibytes:.1} MiB")
    }
}

/// A claim's value or control with the unit.
pub(super) fn value(value: &Value, unit: &str) -> String {
    let text = match value {
        Value::Number(number) => significant(*number),
        Value::Text(text) => text.clone(),
    };
    if unit.is_empty() { text } else { format!("{text} {unit}") }
}

/// A claim's control with the unit, or nothing to show.
pub(super) fn control(claim: &Claim) -> String {
    claim.control.as_ref().map_or(NONE.to_owned(), |control| value(control, &claim.unit))
}

/// Theory's capacity, or nothing to show.
pub(super) fn theory(rung: &RungReport) -> String {
    rung.theory.map_or(NONE.to_owned(), count)
}

/// Failed share under the fault and the control's: `0.00 % (control 22.8 %)`.
pub(super) fn failed(rung: &RungReport) -> String {
    match (rung.failed_ratio, rung.control_failed_ratio) {
        (None, _) => NONE.to_owned(),
        (Some(failed), None) => percent(failed),
        (Some(failed), Some(control)) => format!("{} (control {})", percent(failed), percent(control)),
    }
}

/// Whether the rung's figures are believed, in a word.
pub(super) fn trust(rung: &RungReport) -> String {
    match rung.ratio {
        _ if rung.suspect => "harness suspect".to_owned(),
        Some(ratio) => format!("{ratio:.2}"),
        None => NONE.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        assert_eq!(
            [0.0, 155.6, 1849.9, 12_345.0, 1_234_567.0, f64::NAN].map(count),
            ["0", "156", "1850", "12,345", "1,234,567", NONE]
        );
        assert_eq!(count(-12_345.0), "-12,345");
        assert_eq!(
            [0.0, 0.1234, 1.5, 12.34, 99.96, 123.4, 3.0].map(significant),
            ["0", "0.123", "1.5", "12.3", "100", "123", "3"]
        );
        assert_eq!([0.0, 0.0123, 0.228, 1.0].map(percent), ["0.00 %", "1.23 %", "22.8 %", "100 %"]);
        assert_eq!([940.0, 225_000.0, 999_600.0, 2_660_000.0].map(users), ["940", "225 k", "1.00 M", "2.66 M"]);
        assert_eq!([3.12, 105.4, f64::INFINITY].map(milliseconds), ["3.1", "105", NONE]);
        assert_eq!([0, 5 << 20, 300 << 20, 3 << 30].map(bytes), ["0.0 MiB", "5.0 MiB", "300 MiB", "3.00 GiB"]);
    }
}
