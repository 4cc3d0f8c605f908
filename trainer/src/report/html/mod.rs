//! `report.html`: what a run did and how its agent performed, in one file that needs no network.
//!
//! [`render`] is a pure function of [`ReportData`]: it reads no clock and no file, so the same run gives the same
//! page. Charts are SVG; the only script adds read-outs under the pointer, and the page shows all numbers that
//! matter without it. Every number and every sentence on chance comes from the caller, apart from drawdowns, which
//! follow from the equity.
//!
//! ```text
//! ReportData ─> page (sections in order) ─> chart ─> scale (ticks), downsample (a few points per pixel)
//!                                        └> table
//! ```
//!
//! All texts are escaped. Numbers that are not finite appear as unknown.

mod chart;
mod details;
mod downsample;
mod escape;
mod from_run;
mod market;
mod page;
mod paths;
mod report_data;
mod scale;
mod table;
mod training;

pub use from_run::data;
pub use report_data::{
    Along, CostTable, Curve, DataPart, InstrumentRow, LearningCurve, Market, Memory, MonthTable,
    PerformanceRow, Positions, ReportData, ReturnsRow, Role, Tile,
};

/// The page. Under 1 MB whatever the length of the series, for up to ten instruments.
#[must_use]
pub fn render(report: &ReportData) -> String {
    page::page(report)
}

#[cfg(test)]
mod tests;
