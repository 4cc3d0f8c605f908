//! A mapped run near the smallest memory limit that was planned for it, killed and resumed under the same limit, ends
//! and stays under the limit. Its result is that of the run that never stopped, whichever steps were refused on the way.

use tests::control_group::ControlGroup;
use tests::{kill, n_metric_rows, plimsoll, read_json, run_well, short_train, start, summary, wait_until};

const MIB: u64 = 1 << 20;
/// The control group allows this much more than the memory limit, because the kernel charges a group for bytes that no
/// process holds.
const BESIDE_BYTES: u64 = 16 * MIB;
/// The run gets this much more than the smallest memory limit that was planned.
const ABOVE_BYTES: u64 = 8 * MIB;
/// The micro-batch is fixed: a refused step may be made again with a smaller one, which rounds differently.
const WORK: [&str; 12] = [
    "--set",
    "agent.micro_batch=16",
    "--set",
    "replay.tier=mapped",
    "--set",
    "replay.mmap_above=0",
    "--set",
    "replay.mmap_window=4194304",
    "--set",
    "run.n_environments=2",
    "--steps",
    "2400",
];

#[test]
fn killed_near_its_smallest_limit_it_is_resumed_under_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut plan = short_train(&WORK);
    plan[0] = "plan";
    plan.extend(["--json", "plan.json"]);
    run_well(folder.path(), &plan);
    let plan = read_json(&folder.path().join("plan.json"));
    let limit = plan["smallest_limit_bytes"].as_u64().unwrap() + ABOVE_BYTES;

    let memory = limit.to_string();
    let under = |out| short_train(&[&WORK[..], &["--memory", &memory, "--out", out]].concat());
    run_well(folder.path(), &under("whole"));
    let mut killed = start(folder.path(), &under("killed"));
    wait_until(&mut killed, || n_metric_rows(&folder.path().join("killed")) >= 120);
    kill(killed);

    let resume = plimsoll(folder.path(), &["train", "--resume", "killed"]);
    let group = ControlGroup::new("mapped", limit + BESIDE_BYTES);
    let output = match &group {
        Some(group) => group.run(&resume),
        None => run_well(folder.path(), &["train", "--resume", "killed"]),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(group.map_or(0, |group| group.n_killed()), 0, "killed at a memory limit of {limit}: {said}");
    assert!(output.status.success(), "at a memory limit of {limit}: {said}");
    let [whole, killed] = ["whole", "killed"].map(|out| summary(&folder.path().join(out)));
    for run in [&whole, &killed] {
        let peak = run["peak_resident_bytes"].as_u64().unwrap();
        assert_eq!(run["limit_bytes"].as_u64().unwrap(), limit);
        eprintln!("limit {} MiB, peak {} MiB, {}", limit / MIB, peak / MIB, run["step_config"]);
        assert!(peak <= limit, "a peak of {peak} passes the memory limit of {limit}");
    }
    assert_eq!(killed["weights_sha256"], whole["weights_sha256"]);
}
