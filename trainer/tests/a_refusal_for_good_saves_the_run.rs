//! In a process of its own, whose memory limit it takes away in the middle of a run: the run ends with a refusal that says
//! how to go on, everything is saved, and the resumed run has the weights of one that was never refused.
#![allow(clippy::unwrap_used, reason = "a test fails where a step of it fails")]

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use memsys::ledger::budget;
use serde_json::Value;
use trainer::config::Config;
use trainer::error::{Error, Result};
use trainer::run::train_loop::Ended;
use trainer::train::{TrainRequest, train};

const SETTINGS: [&str; 9] = [
    "run.environment=cartpole",
    "run.threads=1",
    "run.environment_steps=3000",
    "run.n_environments=4",
    "run.checkpoint_interval_steps=1000000",
    "run.evaluation_interval_steps=1000",
    "agent.learning_starts=200",
    "agent.batch=16",
    "agent.samples_per_insert=2",
];

fn run(out: &Path, more: &[&str], is_resumed: bool) -> Result<Ended> {
    let sets: Vec<String> = SETTINGS.iter().chain(more).map(|set| (*set).to_owned()).collect();
    let mut config = Config::load(None, &sets)?;
    config.run.out = Some(out.to_owned());
    let request = TrainRequest {
        config,
        resume: is_resumed.then(|| out.to_owned()),
        command_line: String::new(),
        runtime: memsys::libtorch::open()?,
    };
    train(request, &|_| {})
}

fn summary(out: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(out.join("summary.json")).unwrap()).unwrap()
}

/// A run whose memory limit is taken away as soon as it has written `n_rows` rows of metrics.
fn run_out_of_room(out: &Path, more: &[&str], n_rows: usize) -> Result<Ended> {
    let has_ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let n_written =
                || std::fs::read_to_string(out.join("metrics.jsonl")).map_or(0, |text| text.lines().count());
            while n_written() < n_rows && !has_ended.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            budget::set_limit(1);
        });
        let ended = run(out, more, false);
        has_ended.store(true, Ordering::Relaxed);
        ended
    })
}

fn check(folder: &Path, name: &str, more: &[&str], n_rows: usize) {
    let out = folder.join(name);
    let error = run_out_of_room(&out, more, n_rows).unwrap_err();
    let said = error.to_string();
    assert!(matches!(error, Error::OutOfRoom { .. }), "{name}: {said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    let way_out = format!("the run is saved, go on with: plimsoll train --resume {} --memory", out.display());
    assert!(said.starts_with("out of memory: run/") && said.contains(&way_out), "{said}");
    assert!(!out.join("summary.json").exists(), "{name}: it had not ended");
    assert!(matches!(run(&out, more, true).unwrap(), Ended::Done), "{name}");
    assert_eq!(summary(&out)["environment_steps"], 3000);
}

#[test]
fn a_run_that_is_refused_for_good_is_saved_and_ends_as_if_it_had_not_been() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    run(&whole, &[], false).unwrap();
    for n_rows in [10, 60, 140] {
        let name = format!("refused-{n_rows}");
        check(folder.path(), &name, &[], n_rows);
        let refused = summary(&folder.path().join(&name));
        for key in ["weights_sha256", "test", "learner_steps", "best_validation"] {
            assert_eq!(refused[key], summary(&whole)[key], "{name}: {key}");
        }
    }
    // Concurrent runs do not give one result for one seed, but they lose nothing either.
    check(folder.path(), "concurrent", &["run.synchronous=false"], 60);
}
