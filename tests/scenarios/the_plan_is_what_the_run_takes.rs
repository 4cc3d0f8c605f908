//! The plan of a run predicts its peak of resident memory: within 5 % where the networks are measured, and within 25 %
//! where nothing is run.

use std::path::Path;

use tests::{read_json, run_well, summary};

/// Embedders on and off, batches of 32, 128 and 512, and replays of 10,000 and of a million transitions.
const CONFIGURATIONS: [(&str, &[&str]); 6] = [
    ("full-32-10k", &["embedders.preset=full", "agent.batch=32", "replay.capacity=10000"]),
    ("full-128-1m", &["embedders.preset=full", "agent.batch=128", "replay.capacity=1000000"]),
    ("compact-128-10k", &["agent.batch=128", "replay.capacity=10000"]),
    ("compact-512-1m", &["agent.batch=512", "agent.micro_batch=512", "replay.capacity=1000000"]),
    ("none-32-10k", &["run.environment=cartpole", "agent.batch=32", "replay.capacity=10000"]),
    ("none-512-1m", &["run.environment=cartpole", "agent.batch=512", "replay.capacity=1000000"]),
];

fn planned_peak_bytes(folder: &Path, mode: &str, settings: &[&str]) -> f64 {
    let mut arguments = vec!["plan", "--mode", mode, "--json", "plan.json"];
    arguments.extend_from_slice(settings);
    run_well(folder, &arguments);
    read_json(&folder.join("plan.json"))["peak_bytes"].as_f64().unwrap()
}

#[test]
fn measured_within_5_percent_and_static_within_25() {
    let folder = tempfile::tempdir().unwrap();
    for (name, sets) in CONFIGURATIONS {
        let is_market = !name.starts_with("none");
        // At least two learner steps with each batch; a hundred with the small networks.
        let batch: f64 = name.split('-').nth(1).and_then(|batch| batch.parse().ok()).unwrap();
        let (steps, samples_per_insert) =
            if is_market { ("2208", batch / 100.0) } else { ("2600", batch / 6.0) };
        let pace = format!("agent.samples_per_insert={samples_per_insert}");
        let mut settings = vec!["--threads", "1", "--steps", steps, "--set", &pace];
        settings.extend(["--set", "agent.learning_starts=2000", "--set", "synthetic.days=60"]);
        settings.extend(sets.iter().flat_map(|set| ["--set", set]));
        let (measured, estimated) = (
            planned_peak_bytes(folder.path(), "measured", &settings),
            planned_peak_bytes(folder.path(), "static", &settings),
        );
        let mut arguments = vec!["train", "--out", name];
        arguments.extend_from_slice(&settings);
        run_well(folder.path(), &arguments);
        let summary = summary(&folder.path().join(name));
        assert!(summary["learner_steps"].as_u64().unwrap() > 0, "{name}: it never learned");
        let peak = summary["peak_resident_bytes"].as_f64().unwrap();
        let (measured, estimated) = (measured / peak - 1.0, estimated / peak - 1.0);
        eprintln!(
            "{name:<18} peak {:>6.1} MiB, measured {:+.1} %, static {:+.1} %",
            peak / f64::from(1 << 20),
            100.0 * measured,
            100.0 * estimated
        );
        assert!(measured.abs() <= 0.05, "{name}: measured {measured:+.3}");
        assert!(estimated.abs() <= 0.25, "{name}: static {estimated:+.3}");
    }
}
