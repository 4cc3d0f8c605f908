//! Runs a command inside a real memory control group (v1 or v2), where this user may make one.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::skip;

/// A memory control group with a limit. Dropping it removes it from the system.
#[derive(Debug)]
pub struct ControlGroup {
    folder: PathBuf,
    is_v2: bool,
}

impl ControlGroup {
    /// Makes a group. Where it cannot, the test is to be skipped, and [`skip`] has said why.
    #[must_use]
    pub fn new(name: &str, limit_bytes: u64) -> Option<Self> {
        let name = format!("plimsoll-{name}-{}", std::process::id());
        let groups = [("/sys/fs/cgroup/memory", false), ("/sys/fs/cgroup", true)];
        for (root, is_v2) in groups {
            let folder = Path::new(root).join(&name);
            let marker = if is_v2 { "memory.max" } else { "memory.limit_in_bytes" };
            if !Path::new(root).join("cgroup.procs").exists() || std::fs::create_dir(&folder).is_err() {
                continue;
            }
            let group = Self { folder, is_v2 };
            if std::fs::write(group.folder.join(marker), limit_bytes.to_string()).is_ok() {
                return Some(group);
            }
        }
        skip("no memory control group can be made here (it takes root, or a delegated group)");
        None
    }

    /// Runs a command inside the group to its end.
    ///
    /// # Panics
    /// Where it cannot be started.
    #[must_use]
    pub fn run(&self, command: &Command) -> Output {
        let mut inside = Command::new("sh");
        inside.arg("-c").arg("echo $$ > \"$0\" && exec \"$@\"").arg(self.folder.join("cgroup.procs"));
        inside.arg(command.get_program()).args(command.get_args());
        if let Some(folder) = command.get_current_dir() {
            inside.current_dir(folder);
        }
        inside.output().expect("sh starts")
    }

    /// The number of processes that the kernel killed because the group was full.
    #[must_use]
    pub fn n_killed(&self) -> u64 {
        let file = if self.is_v2 { "memory.events" } else { "memory.oom_control" };
        let text = std::fs::read_to_string(self.folder.join(file)).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        // Its processes have ended by now, and the kernel removes a group that holds none.
        let _ = std::fs::remove_dir(&self.folder);
    }
}
