//! The report page in a real browser: it paints, in light and dark and on a phone, and its figures are in the document.

#[path = "report_page/browser.rs"]
mod browser;
#[path = "report_page/sample.rs"]
mod sample;

use browser::{Browser, Look};

/// Colours of the series and grounds, from the page's style sheet.
const P99_LIGHT: [u8; 3] = [0x00, 0x67, 0xa5];
const P50_LIGHT: [u8; 3] = [0x00, 0x80, 0x5d];
const BOUND_LIGHT: [u8; 3] = [0xc2, 0x41, 0x0c];
const P99_DARK: [u8; 3] = [0x62, 0xb6, 0xec];
const PAGE_LIGHT: [u8; 3] = [0xf2, 0xf4, 0xf7];
const PAGE_DARK: [u8; 3] = [0x0c, 0x11, 0x17];

#[test]
fn the_page_paints_in_light_and_dark_and_on_a_phone() {
    let Some(browser) = Browser::find() else { return };
    let folder = browser.write(&sample::report());
    let wide = browser.screenshot(&folder, Look { width: 1200, height: 2800, dark: false });
    assert_eq!((wide.width, wide.height), (1200, 2800));
    assert!(wide.colours() > 200, "only {} colours", wide.colours());
    for (name, colour) in [("p99", P99_LIGHT), ("p50", P50_LIGHT), ("bound", BOUND_LIGHT), ("page", PAGE_LIGHT)] {
        assert!(wide.count(colour) > 100, "{name}: only {} pixels", wide.count(colour));
    }
    let dark = browser.screenshot(&folder, Look { width: 1200, height: 2800, dark: true });
    assert!(dark.count(PAGE_DARK) > 100_000, "no dark ground");
    assert!(dark.count(P99_DARK) > 1000, "no dark series");
    assert_eq!(dark.count(PAGE_LIGHT), 0, "a light patch in the dark");
    let phone = browser.screenshot(&folder, Look { width: 500, height: 6000, dark: false });
    assert!(phone.count(P99_LIGHT) > 1000);
}

#[test]
fn the_document_holds_the_figures_and_no_markup_of_others() {
    let Some(browser) = Browser::find() else { return };
    let report = sample::report();
    let document = browser.document(&browser.write(&report));
    for rung in &report.rungs {
        assert!(document.contains(&format!("{:.0} /s", rung.capacity)), "capacity of {}", rung.rung);
    }
    for text in ["p99 ≤ 150 ms", "harness suspect", "refresh-ahead", "78.3 %", "web07"] {
        assert!(document.contains(text), "no {text} in the document");
    }
    assert!(document.contains("7 of 8 claims hold"));
    assert!(!document.contains("<script"), "text became markup");
    assert!(document.contains("&lt;script&gt;"));
    assert!(!document.contains("http://") && !document.contains("https://"), "the page must need nothing else");
}
