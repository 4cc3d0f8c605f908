//! What a run tells when it ends: on the terminal, in `summary.json` and in `report.html`.

pub mod conclusion;
pub mod html;
pub mod summary;
mod terminal;
