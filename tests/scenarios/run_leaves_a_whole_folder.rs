//! A finished run leaves the files and the numbers that its users rely on.

use tests::{plimsoll, run, run_well, short_train, summary, weights_sha256};

/// The keys of a managed run's summary that hold a number.
const NUMBERS: [&str; 17] = [
    "seed",
    "environment_steps",
    "learner_steps",
    "wall_seconds",
    "samples_per_second",
    "samples_per_processor_second",
    "limit_bytes",
    "peak_resident_bytes",
    "peak_counted_bytes",
    "counted_bytes",
    "resident_bytes",
    "residual_bytes",
    "denied_allocations",
    "steps_retried",
    "collections",
    "leaks",
    "alerts",
];

#[test]
fn a_market_run_leaves_config_metrics_checkpoint_report_and_summary() {
    let folder = tempfile::tempdir().unwrap();
    run_well(folder.path(), &short_train(&["--steps", "1200", "--out", "out", "--memory", "4GiB"]));
    let out = folder.path().join("out");
    let summary = summary(&out);
    for key in NUMBERS {
        assert!(summary[key].is_number(), "{key}: {}", summary[key]);
    }
    for key in ["transitions", "bytes_per_transition"] {
        assert!(summary["replay"][key].as_f64() > Some(0.0), "{key}: {}", summary["replay"][key]);
    }
    for sha256 in weights_sha256(&out) {
        assert!(sha256.len() == 64 && sha256.chars().all(|digit| digit.is_ascii_hexdigit()), "{sha256}");
    }
    assert!(
        summary["data_identity"].as_str().is_some_and(|identity| !identity.is_empty()),
        "{}",
        summary["data_identity"]
    );
    assert!(summary["environment_steps"].as_u64().unwrap() >= 1200);
    assert!(summary["learner_steps"].as_u64().unwrap() > 20);
    assert_eq!(summary["limit_bytes"], 4u64 << 30);
    for who in ["agent", "flat", "buy_and_hold", "random", "last_half_hour", "oracle"] {
        for number in ["total_return", "sharpe", "max_drawdown", "trades", "cost"] {
            assert!(summary["test"][who][number].is_number(), "{who} {number}");
        }
    }
    assert_eq!(summary["test"]["flat"]["total_return"], 0.0);
    assert!(summary["test"]["random"]["cost"].as_f64().unwrap() > 0.0);
    let page = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(
        page.contains("<svg") && !page.contains("http://") && !page.contains("https://"),
        "the report needs no network"
    );
    let rows = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    assert!(rows.lines().count() > 20);
    let is_events = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with("events.out.tfevents");
    assert!(std::fs::read_dir(&out).unwrap().any(|entry| is_events(&entry.unwrap().file_name())));
    let sums = tests::read_json(&out.join("checkpoint/counters.json"))["files"].clone();
    for name in
        ["weights.safetensors", "last.safetensors", "learner.safetensors", "loops.postcard", "config.toml"]
    {
        let n_bytes = std::fs::metadata(out.join("checkpoint").join(name)).unwrap().len();
        assert_eq!(sums[name]["n_bytes"], n_bytes, "{name}");
    }
    assert_eq!(std::fs::read_dir(out.join("checkpoint")).unwrap().count(), 6, "every file has its sum");

    let rows: Vec<serde_json::Value> = rows.lines().map(|row| serde_json::from_str(row).unwrap()).collect();
    let is_training = |row: &&serde_json::Value| row["kind"] == "train";
    assert!(rows.iter().filter(is_training).all(|row| row["mean_reward_bps"].is_number()), "units are named");
    let (before, after): (Vec<_>, Vec<_>) =
        rows.iter().filter(is_training).partition(|row| row["learner_steps"] == 0);
    assert!(!before.is_empty() && before.iter().all(|row| row["environment_steps_per_second"].is_null()));
    assert!(after.iter().all(|row| row["environment_steps_per_second"].is_number()));

    // The resolved configuration can be read again, and a folder that holds a run is not written over.
    run_well(folder.path(), &["config", "--config", "out/config.toml"]);
    let again = run(folder.path(), &short_train(&["--steps", "1200", "--out", "out"]));
    assert_eq!(again.status.code(), Some(2));

    // Evaluated again, the agent is as good as its summary says.
    run_well(folder.path(), &["evaluate", "--run", "out", "--json", "again.json"]);
    let evaluated: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.path().join("again.json")).unwrap()).unwrap();
    assert_eq!(evaluated["agent"], summary["test"]["agent"]);
}

#[test]
fn what_is_handed_out_is_what_was_judged() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    // The validation after 300 steps is the best: the weights that learn at so high a rate only get worse.
    let settings = ["run.environment=cartpole", "agent.learning_starts=100", "agent.learning_rate=0.3"];
    let mut train = vec!["train", "--steps", "900", "--out", "out"];
    settings.iter().for_each(|set| train.extend(["--set", set]));
    train.extend(["--set", "run.evaluation_interval_steps=300", "--set", "agent.samples_per_insert=4"]);
    run_well(at, &train);
    let best = summary(&at.join("out"))["best_validation"]["environment_steps"].as_u64().unwrap();
    assert!(best < 900, "the last weights are the best: choose other settings");

    run_well(at, &["export", "--torch", "out", "serve"]);
    let facts = |name: &str| {
        let bytes = std::fs::read(at.join("serve").join(name)).unwrap();
        let n = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + n]).unwrap();
        (header["__metadata__"].clone(), bytes[8 + n..].to_vec())
    };
    let ((judged, judged_numbers), (last, last_numbers)) =
        (facts("weights.safetensors"), facts("last.safetensors"));
    assert_eq!((&judged["weights"], &last["weights"]), (&"best validation".into(), &"last".into()));
    assert_eq!(judged["environment_steps"], best.to_string());
    assert_eq!(last["environment_steps"], "900");
    assert_eq!(judged["actions"], "[\"left\",\"right\"]");
    assert_ne!(judged_numbers, last_numbers);
    assert!(at.join("serve/plimsoll_torch.py").is_file());
    let [judged, last] = weights_sha256(&at.join("out"));
    assert_ne!(judged, last);
}

#[test]
fn every_help_is_complete_and_has_an_example() {
    let commands = "train|evaluate|export --torch|features|config|plan|verify|replay inspect|bench replay|bench train|bench memory|completions|man";
    for command in commands.split('|') {
        let arguments: Vec<&str> = command.split(' ').chain(["--help"]).collect();
        let output = run_well(std::path::Path::new("."), &arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("Example") && text.contains("plimsoll"), "{command}: {text}");
    }
}

#[test]
fn the_program_finds_libtorch_from_any_folder() {
    let folder = tempfile::tempdir().unwrap();
    let output = plimsoll(folder.path(), &["--version"]).env_remove("LD_LIBRARY_PATH").output().unwrap();
    assert!(output.status.success());
}

#[test]
fn actor_and_learner_also_run_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = short_train(&["--steps", "1600", "--out", "out", "--set", "run.synchronous=false"]);
    run_well(folder.path(), &arguments);
    let first = summary(&folder.path().join("out"));
    assert!(first["learner_steps"].as_u64().unwrap() > 20);
    run_well(folder.path(), &["train", "--resume", "out", "--steps", "2000"]);
    assert!(summary(&folder.path().join("out"))["environment_steps"].as_u64().unwrap() >= 2000);
}

#[test]
fn cartpole_runs_by_the_same_agent() {
    let folder = tempfile::tempdir().unwrap();
    let arguments =
        ["train", "--set", "run.environment=cartpole", "--steps", "4000", "--threads", "1", "--out", "out"];
    run_well(folder.path(), &arguments);
    let mean = summary(&folder.path().join("out"))["test"]["agent"]["mean_return"].as_f64().unwrap();
    assert!(mean > 30.0, "4,000 steps leave it better than chance (about 22): {mean}");
}
