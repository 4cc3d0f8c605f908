//! The memory limit holds. In a real control group a few MiB above it the kernel kills nothing, from the smallest limit
//! that was planned to far more than is needed. Below the smallest the run is refused before it loads anything.

use std::path::Path;

use tests::control_group::ControlGroup;
use tests::{plimsoll, read_json, run, run_well, summary};

const MIB: u64 = 1 << 20;
/// The control group allows this much more than the memory limit, because the kernel charges a group for bytes that no
/// process holds.
const BESIDE_BYTES: u64 = 16 * MIB;
const N_LIMITS: u64 = 12;

const WORK: [&str; 18] = [
    "--threads",
    "1",
    "--steps",
    "760",
    "--set",
    "embedders.preset=full",
    "--set",
    "synthetic.days=21",
    "--set",
    "agent.learning_starts=600",
    "--set",
    "agent.samples_per_insert=3.2",
    "--set",
    "replay.capacity=20000",
    "--set",
    "run.checkpoint_interval_steps=400",
    "--set",
    "memory.monitoring_interval=0.5",
];

fn work<'a>(command: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    command.iter().chain(&WORK).chain(more).copied().collect()
}

fn smallest_limit(folder: &Path) -> u64 {
    run_well(folder, &work(&["plan", "--json", "plan.json"], &[]));
    read_json(&folder.join("plan.json"))["smallest_limit_bytes"].as_u64().unwrap()
}

#[test]
fn at_every_limit_from_the_planned_minimum_the_run_ends_and_stays_under_it() {
    let folder = tempfile::tempdir().unwrap();
    if ControlGroup::new("probe", 1 << 30).is_none() {
        return;
    }
    let smallest = smallest_limit(folder.path());
    run_well(folder.path(), &work(&["train", "--out", "usual"], &["--set", "memory.managed=false"]));
    let usual = summary(&folder.path().join("usual"))["peak_resident_bytes"].as_u64().unwrap();
    let largest = 2 * usual;
    assert!(smallest < usual, "{smallest} {usual}");
    for i in 0..N_LIMITS {
        // The limits are evenly apart in ratio, so that most of them are low.
        let share = i as f64 / (N_LIMITS - 1) as f64;
        let limit = (smallest as f64 * (largest as f64 / smallest as f64).powf(share)) as u64;
        let group = ControlGroup::new(&format!("limit-{i}"), limit + BESIDE_BYTES).unwrap();
        let (memory, out) = (limit.to_string(), format!("limit-{i}"));
        let arguments = work(&["train", "--memory", &memory, "--out", &out], &[]);
        let output = group.run(&plimsoll(folder.path(), &arguments));
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(group.n_killed(), 0, "killed at a memory limit of {limit}: {said}");
        assert!(output.status.success(), "{} at a memory limit of {limit}: {said}", output.status);
        let summary = summary(&folder.path().join(&out));
        let peak = summary["peak_resident_bytes"].as_u64().unwrap();
        eprintln!("limit {:>5} MiB, peak {:>5} MiB, {}", limit / MIB, peak / MIB, summary["step_config"]);
        assert_eq!(summary["limit_bytes"], limit);
        assert!(peak <= limit, "a peak of {peak} passes the memory limit of {limit}");
    }
}

#[test]
fn the_minimum_that_a_plan_names_is_accepted_in_bf16() {
    let folder = tempfile::tempdir().unwrap();
    let settings =
        ["--threads", "1", "--steps", "760", "--set", "agent.precision=bf16", "--json", "plan.json"];
    let plan: Vec<&str> = ["plan"].into_iter().chain(settings).collect();
    run_well(folder.path(), &plan);
    let smallest = read_json(&folder.path().join("plan.json"))["smallest_limit_bytes"].to_string();
    run_well(folder.path(), &[&plan[..], &["--memory", &smallest]].concat());
}

#[test]
fn well_under_the_planned_minimum_it_is_refused_before_anything_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    // The minimum leaves room for a reading of the runtime that is a step of 16 MiB higher than that of its plan.
    let memory = (smallest_limit(folder.path()) - 17 * MIB).to_string();
    let refused = run(folder.path(), &work(&["train", "--memory", &memory, "--out", "refused"], &[]));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(3), "{said}");
    assert!(said.contains("the smallest that can is") && said.contains("optimizer: two moments"), "{said}");
    assert!(!said.contains("computing the features"), "refused too late: {said}");
    assert!(!folder.path().join("refused").exists(), "a refused run leaves nothing");
}

#[test]
fn a_nonsense_limit_is_answered_clearly() {
    let folder = tempfile::tempdir().unwrap();
    for (memory, answer) in [
        ("0", "leaves no memory at all"),
        ("-1GiB", "is negative"),
        ("12parsecs", "`parsecs` is not a unit of bytes"),
        ("200%", "is out of range"),
        ("4000TiB", "that this machine or its control group allows"),
    ] {
        let output = run(folder.path(), &["train", "--memory", memory, "--out", "nonsense"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{memory}: {said}");
        assert_eq!(said.trim().lines().count(), 1, "{memory}: {said}");
        assert!(said.contains(answer) && said.contains("memory.limit"), "{memory}: {said}");
    }
    let tiny = run(folder.path(), &["train", "--memory", "1", "--out", "tiny"]);
    assert_eq!(tiny.status.code(), Some(3));
}
