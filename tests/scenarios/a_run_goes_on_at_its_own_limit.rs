//! A run at the smallest memory limit that `plan` names is interrupted and goes on at that limit, in a control group of
//! little more, and its weights are those of the run that never stopped.

use tests::control_group::ControlGroup;
use tests::{interrupt, n_metric_rows, plimsoll, read_json, run_well, start, summary, wait_until};

const MIB: u64 = 1 << 20;
/// The control group allows this much more than the memory limit, because the kernel charges a group for bytes that no
/// process holds.
const BESIDE_BYTES: u64 = 4 * MIB;

const WORK: [&str; 14] = [
    "--threads",
    "1",
    "--steps",
    "1000",
    "--set",
    "embedders.preset=full",
    "--set",
    "synthetic.days=21",
    "--set",
    "agent.learning_starts=600",
    "--set",
    "run.checkpoint_interval_steps=400",
    "--set",
    "agent.samples_per_insert=3.2",
];

#[test]
fn interrupted_at_its_planned_minimum_it_goes_on_there() {
    let Some(group) = ControlGroup::new("probe", 1 << 30) else { return };
    drop(group);
    let folder = tempfile::tempdir().unwrap();
    run_well(folder.path(), &[&["plan", "--json", "plan.json"], &WORK[..]].concat());
    let smallest = read_json(&folder.path().join("plan.json"))["smallest_limit_bytes"].as_u64().unwrap();
    for more in [0, 8, 16] {
        let limit = smallest + more * MIB;
        let memory = limit.to_string();
        let (whole, stopped) = (format!("whole-{more}"), format!("stopped-{more}"));
        let train = [&["train", "--memory", &memory, "--out"], &WORK[..]];
        let into = |out| [train[0], &[out], train[1]].concat();
        run_well(folder.path(), &into(&whole));
        let mut process = start(folder.path(), &into(&stopped));
        let out = folder.path().join(&stopped);
        // Some learner steps are taken by then.
        wait_until(&mut process, || n_metric_rows(&out) >= 45);
        assert_eq!(interrupt(process), Some(130));
        let group = ControlGroup::new(&format!("resumed-{more}"), limit + BESIDE_BYTES).unwrap();
        let output = group.run(&plimsoll(folder.path(), &["train", "--resume", &stopped]));
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(group.n_killed(), 0, "killed at a memory limit of {limit}: {said}");
        assert!(output.status.success(), "{} at a memory limit of {limit}: {said}", output.status);
        let (resumed, whole) = (summary(&out), summary(&folder.path().join(&whole)));
        let peak = resumed["peak_resident_bytes"].as_u64().unwrap();
        eprintln!("limit {} MiB, peak {} MiB", limit / MIB, peak / MIB);
        assert!(peak <= limit, "a peak of {peak} passes the memory limit of {limit}");
        assert_eq!(resumed["weights_sha256"], whole["weights_sha256"], "at {limit}");
        assert_eq!(resumed["test"], whole["test"], "at {limit}");
    }
}
