//! Hot, compressed and mapped rows give one result to the bit, and so do batches gathered when they are needed or a step
//! ahead. A mapped run that was killed goes on from its file to the same result.

use std::path::Path;

use serde_json::Value;
use tests::{
    kill, n_metric_rows, read_json, run_well, short_train, start, summary, wait_until, weights_sha256,
};

/// So many steps that the ring wraps: some chunks of each stream are full, and the oldest are gone.
const STEPS: &str = "4800";
const CAPACITY: u64 = 2000;
/// The rows of metrics, of about 200, at which a run is killed.
const KILLS: [usize; 3] = [60, 110, 160];

/// The arguments of a run that moves every chunk it can to `tier`.
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

/// What `plimsoll replay inspect` finds in a run whose ring has to have wrapped.
fn inspected(folder: &Path, out: &str) -> Value {
    run_well(folder, &["replay", "inspect", out, "--json", "inspected.json"]);
    let json = read_json(&folder.join("inspected.json"));
    assert_eq!(json["n_transitions"], CAPACITY);
    assert!(json["n_inserted"].as_u64().unwrap() > 2 * CAPACITY, "{}", json["n_inserted"]);
    json
}

/// Starts a run, kills it at each of [`KILLS`], resumes it each time, and lets it end.
fn kill_and_resume(folder: &Path, arguments: &[&str], out: &str) {
    let resume = ["train", "--resume", out];
    for (attempt, n_rows) in KILLS.into_iter().enumerate() {
        let arguments = if attempt == 0 { arguments } else { &resume };
        let mut process = start(folder, arguments);
        wait_until(&mut process, || n_metric_rows(&folder.join(out)) >= n_rows);
        kill(process);
    }
    run_well(folder, &resume);
}

#[test]
fn hot_compressed_and_mapped_give_one_sha_and_so_does_a_mapped_run_that_was_killed() {
    let folder = tempfile::tempdir().unwrap();
    let of = |out: &str| weights_sha256(&folder.path().join(out));
    for tier in ["hot", "compressed", "mapped"] {
        run_well(folder.path(), &all_in(&format!("replay.tier={tier}"), "replay.prefetch=off", tier));
    }
    assert_eq!((of("compressed"), of("mapped")), (of("hot"), of("hot")));

    let bytes = |json: &Value, tier: &str| json["tier_bytes"][tier].as_u64();
    let hot = inspected(folder.path(), "hot");
    assert_eq!((bytes(&hot, "compressed"), bytes(&hot, "mapped")), (Some(0), None));
    let compressed = inspected(folder.path(), "compressed");
    assert_eq!((bytes(&compressed, "mapped"), &compressed["files"]), (None, &Value::Array(Vec::new())));
    // At least a full chunk of transitions, and one of each environment's local rows.
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
    let of = |out: &str| weights_sha256(&folder.path().join(out));
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
