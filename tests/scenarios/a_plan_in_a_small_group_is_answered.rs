//! `plan` says what a run would take even where its control group allows far less: with status 3, and never killed.

use tests::control_group::ControlGroup;
use tests::plimsoll;

const MIB: u64 = 1 << 20;

/// Groups from the smallest in which libtorch can be loaded to one in which the networks of a configuration run.
const GROUPS: [u64; 5] = [72 * MIB, 128 * MIB, 192 * MIB, 256 * MIB, 352 * MIB];

fn check(name: &str, sets: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    for group_bytes in GROUPS {
        // The limit of the program's choice, and one that leaves the group nothing to spare.
        for memory in ["80%", &(group_bytes - 4 * MIB).to_string()] {
            let Some(group) = ControlGroup::new(name, group_bytes) else { return };
            let mut plan =
                plimsoll(folder.path(), &["plan", "--memory", memory, "--set", "synthetic.days=12"]);
            plan.args(sets.iter().flat_map(|set| ["--set", set]));
            let output = group.run(&plan);
            let said = String::from_utf8_lossy(&output.stderr);
            let at = format!("{sets:?} under {memory} in {} MiB: {said}", group_bytes / MIB);
            assert_eq!(group.n_killed(), 0, "killed, {at}");
            assert!(matches!(output.status.code(), Some(0 | 3)), "{}, {at}", output.status);
            assert!(
                String::from_utf8_lossy(&output.stdout).contains("the smallest memory limit that would do"),
                "{at}"
            );
            if group_bytes < 150 * MIB {
                assert_eq!(output.status.code(), Some(3), "{at}");
                assert!(said.contains("the smallest that can is"), "{at}");
            }
        }
    }
}

#[test]
fn for_small_networks() {
    check("plan-compact", &["agent.precision=bf16"]);
}

#[test]
fn for_large_networks_and_many_environments() {
    check("plan-full", &["embedders.preset=full", "run.n_environments=1024", "run.synchronous=false"]);
}
