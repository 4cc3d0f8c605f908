//! When every k-th allocation of learner steps is refused through a whole run, the weights are those of the undisturbed
//! run.

use tests::{run_well, short_train, summary};

const STEPS: &str = "1500";

#[test]
fn every_kth_refused_the_weights_are_those_of_the_undisturbed_run() {
    let folder = tempfile::tempdir().unwrap();
    let train = |out: &str, every: &str| {
        let setting = format!("memory.refuse_every={every}");
        // Smaller micro-batches, which would round differently, are allowed and must not be taken.
        let mut arguments = short_train(&["--steps", STEPS]);
        arguments.extend(["--set", &setting, "--out", out]);
        run_well(folder.path(), &arguments);
        summary(&folder.path().join(out))
    };
    let undisturbed = train("undisturbed", "0");
    assert_eq!(undisturbed["denied_allocations"], 0);
    for every in ["50", "211", "997", "4999"] {
        let disturbed = train(every, every);
        let number = |key: &str| disturbed[key].as_u64().unwrap();
        assert!(
            number("denied_allocations") > 0 && number("steps_retried") > 0,
            "{every}: nothing was refused"
        );
        eprintln!(
            "every {every}: {} refused, {} of {} steps retried",
            number("denied_allocations"),
            number("steps_retried"),
            number("learner_steps")
        );
        assert_eq!(disturbed["weights_sha256"], undisturbed["weights_sha256"], "every {every}");
        assert_eq!(disturbed["test"], undisturbed["test"], "every {every}");
    }
}
