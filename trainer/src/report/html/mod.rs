//! `report.html`: what a run did and how its agent fared, in one file that needs no network.
//!
//! [`render`] is a pure function of [`ReportData`]: it reads no clock and no file, so the same run gives the same page.
//! Charts are drawn here as SVG; the only script adds read-outs under the pointer, and all numbers that matter are on
//! the page without it. The page measures nothing and judges nothing: every number and every sentence on chance comes
//! from the caller, apart from drawdowns, which follow from the equity.
//!
//! ```text
//! ReportData ─> page (sections in order) ─> chart ─> scale (ticks), thin (at most a few points a pixel)
//!                                        └> table
//! ```
//!
//! Texts may hold anything: they are escaped. Numbers that are not finite are shown as unknown.

mod chart;
mod downsample;
mod escape;
mod from_run;
mod market;
mod page;
mod report_data;
mod scale;
mod table;
mod training;

pub use from_run::data;
pub use report_data::{
    Along, Curve, DataPart, LearningCurve, Market, Memory, PerformanceRow, Positions, ReportData, ReturnsRow,
    Role, Tile,
};

/// The page. Under 1 MB whatever the length of the series, for up to ten instruments.
#[must_use]
pub fn render(report: &ReportData) -> String {
    page::page(report)
}

#[cfg(test)]
mod tests;
