//! The results of a run: lines on the terminal, `summary.json` and `report.html`.

pub mod conclusion;
pub mod html;
pub mod summary;
mod terminal;
pub mod test_details;
pub mod test_rows;
mod test_tables;
