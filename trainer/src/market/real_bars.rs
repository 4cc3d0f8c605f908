//! The real bars that tests read, which are not part of the project.

use std::io::Write;
use std::path::PathBuf;

/// The folder of real bars: the one that `PLIMSOLL_DATA` names, or `../shared/data` beside the checkout. Where there is
/// none, the test is to be skipped, which this says; where `CI` is set it panics instead, as CI skips no test.
pub(super) fn real_bars() -> Option<PathBuf> {
    let folder = std::env::var_os("PLIMSOLL_DATA").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data")),
        PathBuf::from,
    );
    if folder.is_dir() {
        return Some(folder);
    }
    let is_ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
    let lacks = format!("no real bars at {} (PLIMSOLL_DATA may name their folder)", folder.display());
    assert!(!is_ci, "CI skips no test, and this one lacks what it needs: {lacks}");
    // The test harness hides what a passing test prints, but not what it writes to the stream itself.
    let _ = writeln!(std::io::stderr(), "skipped: {lacks}");
    None
}
