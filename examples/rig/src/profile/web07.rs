//! The measured profile that the climb's default requests follow.

use std::borrow::Cow;

use super::Profile;

/// Requests for product pages of a web shop.
///
/// Re-derive with `cargo run --release -p tenfold-rig --example profile -- web07.d64.zst`.
pub const WEB07: Profile = Profile {
    name: Cow::Borrowed("web07"),
    source: Cow::Borrowed(
        "measured on web07: HTTP requests for product detail pages in July, from the cache2k benchmarks, copyright \
         headissue GmbH, Jens Wilke, CC BY 4.0, by way of the Caffeine repository",
    ),
    accesses: 76118,
    keys: 20484,
    first: 0.269108,
    popularity: Cow::Borrowed(&[
        0.018668, 0.015818, 0.027339, 0.042001, 0.046113, 0.061076, 0.055834, 0.057792, 0.064479, 0.063717, 0.068315,
        0.078733, 0.099543, 0.122980, 0.123729, 0.053864,
    ]),
    reuse: Cow::Borrowed(&[
        0.067816, 0.030032, 0.029034, 0.030269, 0.040490, 0.050645, 0.051460, 0.054521, 0.053404, 0.049686, 0.048267,
        0.051026, 0.053693, 0.061221, 0.052918, 0.006411,
    ]),
};
