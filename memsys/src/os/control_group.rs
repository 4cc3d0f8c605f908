//! A memory control group (version 1 or 2) for other processes: the kernel kills a process in it when its limit is full.

use std::io;
use std::path::PathBuf;
use std::process::Command;

use crate::os::memory_groups::{MemoryGroup, own_groups};

/// A memory control group with a limit. Dropping it removes it from the system.
#[derive(Debug)]
pub struct ControlGroup {
    folder: PathBuf,
    is_v2: bool,
}

impl ControlGroup {
    /// Makes a group, in the group of this process or in the nearest one above it that allows it. What its processes
    /// hold cannot be swapped out, where the kernel can be told so. `name` needs to be unique within this process.
    ///
    /// # Errors
    /// If this user may not make a group, which takes root or a delegated group.
    pub fn new(name: &str, limit_bytes: u64) -> io::Result<Self> {
        let name = format!("plimsoll-{name}-{}", std::process::id());
        let mut refused = io::Error::from(io::ErrorKind::NotFound);
        for parent in own_groups() {
            match Self::within(&parent, &name, limit_bytes) {
                Ok(group) => return Ok(group),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    fn within(parent: &MemoryGroup, name: &str, limit_bytes: u64) -> io::Result<Self> {
        let folder = parent.folder.join(name);
        std::fs::create_dir(&folder)?;
        // From here on the drop removes the folder again where the group has no memory controller.
        let group = Self { folder, is_v2: parent.is_v2 };
        let limit_name = if group.is_v2 { "memory.max" } else { "memory.limit_in_bytes" };
        std::fs::write(group.folder.join(limit_name), limit_bytes.to_string())?;
        // Kernels that do not account for swap lack these files.
        let (swap_name, swap_bytes) =
            if group.is_v2 { ("memory.swap.max", 0) } else { ("memory.memsw.limit_in_bytes", limit_bytes) };
        let _ = std::fs::write(group.folder.join(swap_name), swap_bytes.to_string());
        Ok(group)
    }

    /// The same program, arguments, variables and working folder, started inside the group. Streams are not carried
    /// over: set them on what this returns.
    #[must_use]
    pub fn inside(&self, command: &Command) -> Command {
        let mut inside = Command::new("sh");
        inside.arg("-c").arg("echo $$ > \"$0\" && exec \"$@\"").arg(self.folder.join("cgroup.procs"));
        inside.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            inside.current_dir(folder);
        }
        inside
    }

    /// The number of processes that the kernel killed because the group was full.
    #[must_use]
    pub fn n_killed(&self) -> u64 {
        let file = if self.is_v2 { "memory.events" } else { "memory.oom_control" };
        let text = std::fs::read_to_string(self.folder.join(file)).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
    }

    /// The most bytes that were charged to the group at once, as the kernel says; `None` where it does not (version 2
    /// before Linux 5.19). They include cached file pages, which the kernel drops where the group is full.
    #[must_use]
    pub fn peak_bytes(&self) -> Option<u64> {
        let file = if self.is_v2 { "memory.peak" } else { "memory.max_usage_in_bytes" };
        std::fs::read_to_string(self.folder.join(file)).ok()?.trim().parse().ok()
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        // Its processes have ended by now, and the kernel removes a group that holds none.
        let _ = std::fs::remove_dir(&self.folder);
    }
}
