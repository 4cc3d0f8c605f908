//! Where the memory control groups of this process lie, and the limit of each.
//!
//! ```text
//! /proc/self/cgroup     which group of each hierarchy        4:cpu,memory:/a/b        0::/a/b
//! /proc/self/mountinfo  where the hierarchies are mounted    /sys/fs/cgroup/cpu,memory, or anywhere else
//! ```
//!
//! Version 1 may mount the memory controller together with others, under any name; version 2 may lie beside it. In a
//! container the mount often begins at the container's own group, and the groups above are not visible.
//!
//! A group of version 2 has two limits: at `memory.max` the kernel kills, and above `memory.high` it lets the processes
//! hardly go on. So the lower one counts. Its `memory.swap.max` adds nothing: what is swapped out is not resident, and a
//! run that needs swap to stay below its limit hardly goes on either.

use std::path::{Path, PathBuf};

/// A memory control group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MemoryGroup {
    /// Its folder.
    pub(super) folder: PathBuf,
    /// Whether it is of version 2.
    pub(super) is_v2: bool,
}

impl MemoryGroup {
    /// The files that may hold its limit.
    pub(super) fn limit_files(&self) -> Vec<PathBuf> {
        let names: &[&str] =
            if self.is_v2 { &["memory.max", "memory.high"] } else { &["memory.limit_in_bytes"] };
        names.iter().map(|name| self.folder.join(name)).collect()
    }

    /// The file that holds its use.
    pub(super) fn usage_file(&self) -> PathBuf {
        self.folder.join(if self.is_v2 { "memory.current" } else { "memory.usage_in_bytes" })
    }

    /// The lowest of its limits in bytes; `None` where it has none.
    pub(super) fn limit_bytes(&self) -> Option<u64> {
        let read = |file: PathBuf| std::fs::read_to_string(file).ok()?.trim().parse().ok();
        self.limit_files().into_iter().filter_map(read).min()
    }
}

/// The groups of this process, the nearest of each hierarchy first.
pub(super) fn own_groups() -> Vec<MemoryGroup> {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    groups_of(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"))
}

/// The groups that the contents of `/proc/self/cgroup` and `/proc/self/mountinfo` name: each group itself, and those above
/// it that are visible.
fn groups_of(groups: &str, mounts: &str) -> Vec<MemoryGroup> {
    let mounts: Vec<Mount> = mounts.lines().filter_map(Mount::parse).collect();
    let mut found = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let is_v2 = controllers.is_empty();
        if !is_v2 && !controllers.split(',').any(|controller| controller == "memory") {
            continue;
        }
        for mount in mounts.iter().filter(|mount| mount.is_v2 == is_v2) {
            // Where the group lies outside of what is mounted, the mount's own folder holds the limit.
            let within = Path::new(path).strip_prefix(&mount.root).unwrap_or(Path::new(""));
            // A join with nothing would leave a slash at the end.
            let depth = within.components().count();
            let nearest = if depth == 0 { mount.point.clone() } else { mount.point.join(within) };
            for folder in nearest.ancestors().take(depth + 1) {
                // `ancestors` of a path that ends in a slash would name it twice.
                let group = MemoryGroup { folder: folder.to_path_buf(), is_v2 };
                if !found.contains(&group) {
                    found.push(group);
                }
            }
        }
    }
    found
}

/// Where a hierarchy with the memory controller is mounted.
struct Mount {
    /// The group that is mounted there.
    root: PathBuf,
    point: PathBuf,
    is_v2: bool,
}

impl Mount {
    /// Reads a line of `/proc/self/mountinfo`; `None` if it is of something else.
    fn parse(line: &str) -> Option<Self> {
        // proc_pid_mountinfo(5): six fields, any number of optional ones, a dash, and three more.
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (root, point) = (before.next()?, before.next()?);
        let mut after = after.split(' ');
        let (kind, options) = (after.next()?, after.nth(1)?);
        let is_v2 = kind == "cgroup2";
        let has_memory = kind == "cgroup" && options.split(',').any(|option| option == "memory");
        (is_v2 || has_memory).then(|| Self { root: unescaped(root), point: unescaped(point), is_v2 })
    }
}

/// A path of `/proc/self/mountinfo`, which writes spaces, tabs, line feeds and backslashes as octal numbers.
fn unescaped(text: &str) -> PathBuf {
    let marks = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    marks.iter().fold(text.to_owned(), |text, (mark, written)| text.replace(mark, written)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(groups: &str, mounts: &str, expected: &[(&str, bool)]) {
        let found = groups_of(groups, mounts);
        let found: Vec<(&str, bool)> =
            found.iter().map(|group| (group.folder.to_str().unwrap(), group.is_v2)).collect();
        assert_eq!(found, expected);
    }

    const V2: &str = "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate";

    #[test]
    fn limits_are_looked_for_in_every_group_up_to_the_root() {
        let group = |folder| (folder, true);
        check(
            "0::/a/b",
            V2,
            &[group("/sys/fs/cgroup/a/b"), group("/sys/fs/cgroup/a"), group("/sys/fs/cgroup")],
        );
        check("0::/", V2, &[group("/sys/fs/cgroup")]);
    }

    #[test]
    fn a_memory_controller_is_found_where_it_is_mounted_with_others() {
        let mounts = "31 24 0:27 / /sys/fs/cgroup/cpu,memory rw - cgroup cgroup rw,cpu,memory\n\
                      32 24 0:28 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
                      33 24 0:29 / /sys/fs/cgroup/my\\040unified rw - cgroup2 cgroup2 rw";
        check(
            "4:cpu,memory:/a\n3:pids:/x\n0::/c\n",
            mounts,
            &[
                ("/sys/fs/cgroup/cpu,memory/a", false),
                ("/sys/fs/cgroup/cpu,memory", false),
                ("/sys/fs/cgroup/my unified/c", true),
                ("/sys/fs/cgroup/my unified", true),
            ],
        );
    }

    #[test]
    fn in_a_container_the_mount_begins_at_its_own_group() {
        let mounts = "31 24 0:27 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory";
        check("4:memory:/docker/abc", mounts, &[("/sys/fs/cgroup/memory", false)]);
        check(
            "4:memory:/docker/abc/job",
            mounts,
            &[("/sys/fs/cgroup/memory/job", false), ("/sys/fs/cgroup/memory", false)],
        );
        check("4:memory:/elsewhere", mounts, &[("/sys/fs/cgroup/memory", false)]);
    }

    #[test]
    fn the_lower_of_two_limits_counts() {
        let folder = tempfile::tempdir().unwrap();
        let group = MemoryGroup { folder: folder.path().to_path_buf(), is_v2: true };
        assert_eq!(group.limit_bytes(), None);
        for (max, high, limit) in [
            ("max", "max", None),
            ("3000", "max", Some(3000)),
            ("max", "2000", Some(2000)),
            ("3000", "2000", Some(2000)),
            ("1000", "2000", Some(1000)),
        ] {
            std::fs::write(folder.path().join("memory.max"), format!("{max}\n")).unwrap();
            std::fs::write(folder.path().join("memory.high"), format!("{high}\n")).unwrap();
            std::fs::write(folder.path().join("memory.swap.max"), "500\n").unwrap();
            assert_eq!(group.limit_bytes(), limit, "{max} {high}");
        }
    }
}
