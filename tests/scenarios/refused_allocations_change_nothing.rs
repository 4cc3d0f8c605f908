//! When every k-th allocation of all phases is refused through a whole run (loading, acting, learning, evaluating, saving,
//! the report), the weights are those of the undisturbed run. A run that cannot go on has saved everything and is resumed.

use tests::{run, run_well, short_train, summary};

const STEPS: &str = "1500";
const OUT_OF_ROOM: i32 = 3;

fn check(more: &[&str], periods: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let arguments = |out: &str, every: &str| -> Vec<String> {
        let setting = format!("memory.refuse_every={every}");
        // Smaller micro-batches, which would round differently, are allowed and must not be taken.
        let arguments = short_train(&["--steps", STEPS]);
        let all = arguments.iter().chain(more).copied().chain(["--set", &setting, "--out", out]);
        all.map(str::to_owned).collect()
    };
    let train = |out: &str, every: &str| {
        let arguments = arguments(out, every);
        let output = run(folder.path(), &arguments.iter().map(String::as_str).collect::<Vec<_>>());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("frame #"), "{said}");
        if output.status.code() == Some(OUT_OF_ROOM) {
            assert!(
                said.contains(&format!("the run is saved, go on with: plimsoll train --resume {out}")),
                "{said}"
            );
            run_well(folder.path(), &["train", "--resume", out, "--set", "memory.refuse_every=0"]);
        } else {
            assert!(output.status.success(), "every {every}: {} {said}", output.status);
        }
        summary(&folder.path().join(out))
    };
    let undisturbed = train("undisturbed", "0");
    assert_eq!(undisturbed["denied_allocations"], 0);
    for every in periods {
        let disturbed = train(every, every);
        let number = |key: &str| disturbed[key].as_u64().unwrap();
        assert!(number("denied_allocations") > 0, "{every}: nothing was refused");
        eprintln!(
            "every {every}: {} refused, {} of {} steps retried",
            number("denied_allocations"),
            number("steps_retried"),
            number("learner_steps")
        );
        assert_eq!(disturbed["weights_sha256"], undisturbed["weights_sha256"], "every {every}");
        assert_eq!(disturbed["test"], undisturbed["test"], "every {every}");
        assert_eq!(disturbed["best_validation"], undisturbed["best_validation"], "every {every}");
    }
}

#[test]
fn every_kth_refused_the_weights_are_those_of_the_undisturbed_run() {
    check(&[], &["50", "211", "997", "4999"]);
}

#[test]
fn every_kth_refused_a_batch_that_is_drawn_ahead_stays_the_same() {
    check(&["--set", "replay.prefetch=ahead"], &["50", "211"]);
}

#[test]
fn a_run_that_never_learns_is_refused_too_and_ends() {
    check(&["--set", "agent.learning_starts=100000"], &["3", "50"]);
}
