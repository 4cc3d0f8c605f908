//! A bench works in a folder of its own and removes it at its end, and on Ctrl-C too.

use std::path::Path;
use std::process::{Command, Stdio};

use tests::{interrupt, plimsoll, read_json, run_well, start, wait_until};

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

/// A short configuration of `bench limit`, in a folder that is empty but for what the bench leaves behind.
fn bench_limit(folder: &Path, more: &[&str]) -> Command {
    let mut bench = plimsoll(folder, &["bench", "limit", "--only", "4"]);
    bench.args(more).env("TMPDIR", folder);
    bench
}

/// Processes whose command line names `folder`.
fn processes_in(folder: &Path) -> usize {
    let folder = folder.to_str().unwrap();
    let lines = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let line = std::fs::read(entry.ok()?.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&line).into_owned())
    });
    lines.filter(|line| line.contains(folder)).count()
}

#[test]
fn a_run_under_a_limit_is_told_in_numbers_and_gone_with_its_bench() {
    let [folder, out] = [0, 1].map(|_| tempfile::tempdir().unwrap());
    let json = out.path().join("limit.json");
    let ended = bench_limit(folder.path(), &["--json", json.to_str().unwrap()]).output().unwrap();
    let json = read_json(&json);
    let [one] = &json["configurations"].as_array().unwrap()[..] else { panic!("{json}") };
    assert!(one["words"].as_str().unwrap().starts_with("cartpole"), "{json}");
    let runs = one["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 3, "{json}");
    let minimum = one["minimum_bytes"].as_f64().unwrap();
    for (run, share) in runs.iter().zip([1.0, 1.05, 1.3]) {
        assert!((run["limit_bytes"].as_f64().unwrap() - share * minimum).abs() <= 1.0, "{json}");
        assert!(run["peak_bytes"].as_f64().unwrap() > 0.5 * minimum, "{json}");
        if json["in_control_groups"] == true {
            assert!(run["group_peak_bytes"].as_u64() > Some(10 << 20), "{json}");
        }
    }
    let is_held = ["killed", "failed", "over", "plans_failed"].iter().all(|sum| json[sum] == 0);
    assert_eq!(ended.status.code(), Some(if is_held { 0 } else { 1 }), "{json}");
    assert!(
        String::from_utf8_lossy(&ended.stdout).contains("1 configurations of seed 1, 3 runs"),
        "{ended:?}"
    );
    assert_eq!(n_entries(folder.path()), 0);
}

#[test]
fn an_interrupted_bench_takes_its_running_configuration_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench =
        bench_limit(folder.path(), &[]).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    wait_until(&mut bench, || processes_in(folder.path()) > 0);
    assert_eq!(interrupt(bench), Some(130));
    assert_eq!((n_entries(folder.path()), processes_in(folder.path())), (0, 0));
}
