//! A mapped run at a memory limit near the smallest that was planned for it, killed and resumed under the same memory limit: it ends, stays
//! under it, and its result is that of the run that never stopped, whatever steps were refused on the way.

use std::process::Stdio;
use std::time::{Duration, Instant};

use tests::control_group::ControlGroup;
use tests::{plimsoll, run_well, short_train, summary};

const MIB: u64 = 1 << 20;
/// What the control group allows beyond the memory limit: what the kernel charges to a group and no process holds.
const BESIDE_BYTES: u64 = 16 * MIB;
/// How far above the smallest planned memory limit the run is held.
const ABOVE_BYTES: u64 = 8 * MIB;
/// The micro-batch is fixed: a step that is refused may be made again with a smaller one, whose last bits differ.
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
    let plan: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.path().join("plan.json")).unwrap()).unwrap();
    let line = plan["smallest_line_bytes"].as_u64().unwrap() + ABOVE_BYTES;

    let text = line.to_string();
    let under = |out| short_train(&[&WORK[..], &["--memory", &text, "--out", out]].concat());
    run_well(folder.path(), &under("whole"));
    let mut child = plimsoll(folder.path(), &under("killed")).stderr(Stdio::null()).spawn().unwrap();
    let out = folder.path().join("killed");
    let rows = || std::fs::read_to_string(out.join("metrics.jsonl")).map_or(0, |text| text.lines().count());
    let began = Instant::now();
    while rows() < 120 {
        assert!(child.try_wait().unwrap().is_none(), "the run ended by itself");
        assert!(began.elapsed() < Duration::from_secs(300), "the run does not go on");
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();

    let resume = plimsoll(folder.path(), &["train", "--resume", "killed"]);
    let group = ControlGroup::new("mapped", line + BESIDE_BYTES);
    let output = match &group {
        Some(group) => group.run(&resume),
        None => run_well(folder.path(), &["train", "--resume", "killed"]),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(group.map_or(0, |group| group.n_killed()), 0, "killed at a memory limit of {line}: {said}");
    assert!(output.status.success(), "at a memory limit of {line}: {said}");
    let [whole, killed] = ["whole", "killed"].map(|out| summary(&folder.path().join(out)));
    for run in [&whole, &killed] {
        let peak = run["peak_resident_bytes"].as_u64().unwrap();
        assert_eq!(run["limit_bytes"].as_u64().unwrap(), line);
        eprintln!("limit {} MiB, peak {} MiB, {}", line / MIB, peak / MIB, run["step_config"]);
        assert!(peak <= line, "a peak of {peak} passes the memory limit of {line}");
    }
    assert_eq!(killed["weights_sha256"], whole["weights_sha256"]);
}
