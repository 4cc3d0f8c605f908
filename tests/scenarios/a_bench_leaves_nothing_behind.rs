//! A bench works in a folder of its own and removes it at its end, and on Ctrl-C too.

use std::path::Path;

use tests::{interrupt, run_well, start, wait_until};

fn n_entries(folder: &Path) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

#[test]
fn done_or_interrupted_its_folder_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let bench = ["bench", "replay", "--rows", "mapped_warm_1e6", "--most", "1000", "--seconds"];
    run_well(folder.path(), &[&bench[..], &["0.01"]].concat());
    assert_eq!(n_entries(folder.path()), 0);

    let endless = [&bench[..], &["1000"]].concat();
    let mut bench = start(folder.path(), &endless);
    wait_until(&mut bench, || n_entries(folder.path()) > 0);
    assert_eq!(interrupt(bench), Some(130));
    assert_eq!(n_entries(folder.path()), 0);
}
