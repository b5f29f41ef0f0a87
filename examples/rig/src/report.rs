//! What a run found out: the data, and every form in which people and programs read it.

mod chart;
mod figure;
mod files;
mod markdown;
mod model;
mod page;
mod picture;
mod svg;
mod text;

pub use files::WriteError;
pub use model::{
    Claim, Curve, Fact, HIGHEST_RATIO, LOWEST_RATIO, Point, Report, RungReport, Table, TierView, UserModel, Value,
    Verdict,
};

#[cfg(test)]
mod tests;
