//! Readings of memory: what this process holds, and what the machine and its control group allow.
//!
//! A reading costs a few microseconds (one small file of `/proc`). Reads only; decides nothing.

use std::path::Path;

use crate::error::{Error, Result};

/// Bytes of this process that are resident now.
///
/// # Errors
/// Where `/proc/self/statm` cannot be read.
pub fn resident_bytes() -> Result<u64> {
    let path = Path::new("/proc/self/statm");
    let pages = std::fs::read_to_string(path)
        .ok()
        .and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok())
        .ok_or(Error::Probe { what: "resident pages", path: path.into() })?;
    Ok(pages * PAGE_BYTES)
}

/// The most bytes of this process that were ever resident at once.
///
/// # Errors
/// Where `/proc/self/status` cannot be read.
pub fn peak_resident_bytes() -> Result<u64> {
    let path = Path::new("/proc/self/status");
    let kib = std::fs::read_to_string(path)
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("VmHWM:"))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        })
        .ok_or(Error::Probe { what: "peak resident bytes", path: path.into() })?;
    Ok(kib * 1024)
}

/// Bytes of memory that this process may use at most: the machine's, or its control group's (v1 and v2, every
/// group up to the root) if that is less.
///
/// # Errors
/// Where the machine's own memory cannot be read.
pub fn allowed_bytes() -> Result<u64> {
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    let machine = system.total_memory();
    if machine == 0 {
        return Err(Error::Probe { what: "total memory", path: "/proc/meminfo".into() });
    }
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = group_limit_files(&groups)
        .into_iter()
        .filter_map(|file| std::fs::read_to_string(file).ok()?.trim().parse::<u64>().ok());
    Ok(limits.fold(machine, u64::min))
}

/// The files that may hold a limit, for the contents of `/proc/self/cgroup`: the group's own and those of every
/// group above it. Inside a container the group's path is often not visible and its root holds the limit.
fn group_limit_files(groups: &str) -> Vec<String> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let (root, name) = if controllers.is_empty() {
            ("/sys/fs/cgroup", "memory.max")
        } else if controllers.split(',').any(|controller| controller == "memory") {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        } else {
            continue;
        };
        let mut path = path.trim_end_matches('/');
        loop {
            files.push(format!("{root}{path}/{name}"));
            match path.rfind('/') {
                Some(cut) => path = &path[..cut],
                None => break,
            }
        }
    }
    files
}

const PAGE_BYTES: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_bytes_are_at_most_the_peak() {
        let resident = resident_bytes().unwrap();
        assert!(resident > 0 && resident <= peak_resident_bytes().unwrap());
    }

    #[test]
    fn limits_are_looked_for_in_every_group_up_to_the_root() {
        let files = group_limit_files("4:memory:/a/b\n3:cpu:/x\n0::/c\n");
        assert_eq!(
            files,
            [
                "/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/a/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
                "/sys/fs/cgroup/c/memory.max",
                "/sys/fs/cgroup/memory.max",
            ]
        );
    }

    #[test]
    fn allowed_bytes_are_never_more_than_the_machine_has() {
        let mut system = sysinfo::System::new();
        system.refresh_memory();
        assert!((1..=system.total_memory()).contains(&allowed_bytes().unwrap()));
    }
}
