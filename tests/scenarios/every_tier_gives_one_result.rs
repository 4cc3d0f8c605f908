//! Rows of the replay and of the market hot, compressed or mapped, batches drawn when they are needed or a step ahead: one
//! result to the bit, and a mapped run that was killed goes on from the file.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::{plimsoll, run_well, short_train, summary};

/// Steps of a run whose ring wraps: of each stream some chunks are full, and the oldest are gone.
const STEPS: &str = "4800";
const CAPACITY: u64 = 2000;
/// In order, when a run that is to be killed is: rows of metrics, of about 200.
const KILLS: [usize; 3] = [60, 110, 160];

/// Nothing that can go down stays hot.
fn all_in<'a>(tier: &'a str, prefetch: &'a str, out: &'a str) -> Vec<&'a str> {
    let settings = [
        tier,
        prefetch,
        "replay.memory_budget=0",
        "replay.mmap_above=0",
        "replay.capacity=2000",
        "run.n_environments=2",
        "agent.samples_per_insert=0.5",
    ];
    let settings: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
    short_train(&[&settings[..], &["--steps", STEPS, "--out", out]].concat())
}

fn weights(out: &Path) -> String {
    summary(out)["weights_sha256"].as_str().unwrap().to_owned()
}

fn rows(out: &Path) -> usize {
    std::fs::read_to_string(out.join("metrics.jsonl")).map_or(0, |text| text.lines().count())
}

/// What `plimsoll replay inspect` finds in a run whose ring has wrapped.
fn inspected(folder: &Path, out: &str) -> Value {
    run_well(folder, &["replay", "inspect", out, "--json", "inspected.json"]);
    let json: Value = serde_json::from_slice(&std::fs::read(folder.join("inspected.json")).unwrap()).unwrap();
    assert_eq!(json["n_transitions"], CAPACITY);
    assert!(json["n_inserted"].as_u64().unwrap() > 2 * CAPACITY, "{}", json["n_inserted"]);
    json
}

/// Kills a run with these arguments at each of [`KILLS`], resuming it between, and lets it end.
fn kill_and_resume(folder: &Path, arguments: &[&str], out: &str) {
    let resume = ["train", "--resume", out];
    for (kill, n_rows) in KILLS.into_iter().enumerate() {
        let arguments = if kill == 0 { arguments } else { &resume };
        let mut child = plimsoll(folder, arguments).stderr(Stdio::null()).spawn().unwrap();
        let began = Instant::now();
        while rows(&folder.join(out)) < n_rows {
            assert!(child.try_wait().unwrap().is_none(), "the run ended by itself");
            assert!(began.elapsed() < Duration::from_secs(300), "the run does not go on");
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    run_well(folder, &resume);
}

#[test]
fn hot_compressed_and_mapped_give_one_sha_and_so_does_a_mapped_run_that_was_killed() {
    let folder = tempfile::tempdir().unwrap();
    let of = |out: &str| weights(&folder.path().join(out));
    for tier in ["hot", "compressed", "mapped"] {
        run_well(folder.path(), &all_in(&format!("replay.tier={tier}"), "replay.prefetch=off", tier));
    }
    assert_eq!((of("compressed"), of("mapped")), (of("hot"), of("hot")));

    let bytes = |json: &Value, tier: &str| json["tier_bytes"][tier].as_u64();
    let hot = inspected(folder.path(), "hot");
    assert_eq!((bytes(&hot, "compressed"), bytes(&hot, "mapped")), (Some(0), None));
    let compressed = inspected(folder.path(), "compressed");
    assert_eq!((bytes(&compressed, "mapped"), &compressed["files"]), (None, &Value::Array(Vec::new())));
    // A full chunk of transitions and one of each environment's local rows.
    assert!(bytes(&compressed, "compressed") > Some(3 * 1024), "{}", compressed["tier_bytes"]);
    let mapped = inspected(folder.path(), "mapped");
    let [replay, streams] = [0, 1].map(|file| {
        let of =
            |stream: &Value| (stream["of"].as_str().unwrap().to_owned(), stream["n_rows"].as_u64().unwrap());
        mapped["files"][file]["streams"].as_array().unwrap().iter().map(of).collect::<Vec<_>>()
    });
    let n_inserted = mapped["n_inserted"].as_u64().unwrap();
    assert_eq!(replay[0], ("transitions".to_owned(), n_inserted), "all that was inserted went to the file");
    for (stream, name) in replay[1..].iter().zip(["local rows 0", "local rows 1"]) {
        assert!(stream.0 == name && stream.1 > n_inserted / 2, "{stream:?}");
    }
    let names: Vec<&str> = streams.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["structure 0", "tactical 0", "regime 0", "lvn 0"]);
    assert!(streams.iter().all(|(_, n_rows)| *n_rows >= 256), "{streams:?}");

    kill_and_resume(folder.path(), &all_in("replay.tier=mapped", "replay.prefetch=off", "killed"), "killed");
    assert_eq!(of("killed"), of("hot"));
    let test = |out: &str| summary(&folder.path().join(out))["test"].clone();
    assert_eq!(test("killed"), test("hot"));
}

#[test]
fn batches_gathered_ahead_or_at_once_give_one_sha_and_so_does_a_mapped_run_that_was_killed() {
    let folder = tempfile::tempdir().unwrap();
    let of = |out: &str| weights(&folder.path().join(out));
    run_well(folder.path(), &all_in("replay.tier=mapped", "replay.prefetch=ahead", "ahead"));
    run_well(folder.path(), &all_in("replay.tier=compressed", "replay.prefetch=synchronous", "synchronous"));
    assert_eq!(of("ahead"), of("synchronous"));
    kill_and_resume(
        folder.path(),
        &all_in("replay.tier=mapped", "replay.prefetch=ahead", "killed"),
        "killed",
    );
    assert_eq!(of("killed"), of("ahead"));
}
