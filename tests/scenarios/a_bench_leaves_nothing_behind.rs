//! A bench works in a folder of its own, which goes with it: at its end and on Ctrl-C.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tests::{plimsoll, run_well};

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
    let mut child = plimsoll(folder.path(), &endless).stderr(Stdio::null()).spawn().unwrap();
    let began = Instant::now();
    while n_entries(folder.path()) == 0 {
        assert!(began.elapsed() < Duration::from_secs(120), "the bench makes its folder");
        std::thread::sleep(Duration::from_millis(20));
    }
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(n_entries(folder.path()), 0);
}
