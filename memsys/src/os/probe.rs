//! Readings of memory: what this process holds, and what the machine and its control group allow.
//!
//! The functions open the files they read, so call them now and then. A [`Probe`] keeps its files open and reads them
//! again in a few microseconds each without an allocation. This module only reads; it decides nothing.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::error::{Error, Result};
use crate::os::memory_groups::{MemoryGroup, own_groups};

/// Bytes of this process that are resident now.
///
/// # Errors
/// [`Error::Probe`] if `/proc/self/statm` cannot be read.
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
/// [`Error::Probe`] if `/proc/self/status` cannot be read.
pub fn peak_resident_bytes() -> Result<u64> {
    Ok(recent_peak_resident_bytes()?.max(PEAK_BEFORE_BYTES.load(Relaxed)))
}

/// Restarts [`recent_peak_resident_bytes`]. If the kernel refuses to reset its peak, the recent peak remains that since
/// the start of the process.
pub fn restart_peak_resident() {
    if let Ok(peak) = recent_peak_resident_bytes() {
        PEAK_BEFORE_BYTES.fetch_max(peak, Relaxed);
        // proc(5): the value 5 resets the peak of resident pages to what is resident now.
        let _ = std::fs::write("/proc/self/clear_refs", "5");
    }
}

/// The most bytes that were resident at once since the last [`restart_peak_resident`].
///
/// # Errors
/// [`Error::Probe`] if `/proc/self/status` cannot be read.
pub fn recent_peak_resident_bytes() -> Result<u64> {
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

/// The most bytes of memory that this process may use: those of the machine, or the lowest limit of its control groups
/// if that is less. Reads control groups of version 1 and 2 and every visible group up to the root; of version 2 both
/// `memory.max` and `memory.high`.
///
/// # Errors
/// [`Error::Probe`] if the size of the machine's memory cannot be read.
pub fn allowed_bytes() -> Result<u64> {
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    let machine = system.total_memory();
    if machine == 0 {
        return Err(Error::Probe { what: "total memory", path: "/proc/meminfo".into() });
    }
    let limits = own_groups().into_iter().filter_map(|group| group.limit_bytes());
    Ok(limits.fold(machine, u64::min))
}

const PAGE_BYTES: u64 = 4096;

static PEAK_BEFORE_BYTES: AtomicU64 = AtomicU64::new(0);

/// The use and the limit of a control group. The use includes cached file pages, which the kernel drops when needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupBytes {
    /// Bytes charged to the group.
    pub used_bytes: u64,
    /// The group's limit in bytes.
    pub limit_bytes: u64,
}

/// What this process holds on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceBytes {
    /// The device's name, such as `cuda:0`.
    pub name: &'static str,
    /// Bytes of live tensors.
    pub allocated_bytes: u64,
    /// Bytes taken from the device, free cached blocks included.
    pub reserved_bytes: u64,
    /// The most bytes that the process may take from the device.
    pub limit_bytes: u64,
}

/// Reads one device. It runs at every reading, so it must be quick and allocate nothing.
pub type ReadDevice = dyn Fn() -> DeviceBytes + Send + Sync;

/// Open files that tell the memory use of this process, its control group and the machine.
pub struct Probe {
    statm: File,
    meminfo: Option<File>,
    pressure: Option<File>,
    groups: Vec<Group>,
    machine_bytes: u64,
    devices: Vec<Box<ReadDevice>>,
}

struct Group {
    usage: File,
    limits: Vec<File>,
}

impl Group {
    fn open(group: &MemoryGroup) -> Option<Self> {
        let limits = group.limit_files().into_iter().filter_map(|file| File::open(file).ok()).collect();
        Some(Self { usage: File::open(group.usage_file()).ok()?, limits })
    }

    /// Its use and its lowest limit; `None` where it has no limit now.
    fn bytes(&self) -> Option<GroupBytes> {
        let number = |file: &File| with_text(file, |text| text.trim().parse::<u64>().ok());
        let limit_bytes = self.limits.iter().filter_map(number).min()?;
        Some(GroupBytes { used_bytes: number(&self.usage)?, limit_bytes })
    }
}

/// The group that has the fewest bytes left, of those with a limit below `machine_bytes`.
fn nearest_to_limit(groups: &[Group], machine_bytes: u64) -> Option<GroupBytes> {
    let limited = groups.iter().filter_map(Group::bytes).filter(|group| group.limit_bytes < machine_bytes);
    limited.min_by_key(|group| group.limit_bytes.saturating_sub(group.used_bytes))
}

impl Probe {
    /// Opens the files that exist. Only `/proc/self/statm` is required.
    ///
    /// # Errors
    /// [`Error::Probe`] if `/proc/self/statm` cannot be opened.
    pub fn open() -> Result<Self> {
        let path = Path::new("/proc/self/statm");
        let statm =
            File::open(path).map_err(|_| Error::Probe { what: "resident pages", path: path.into() })?;
        let mut system = sysinfo::System::new();
        system.refresh_memory();
        let machine_bytes = system.total_memory();
        let own = own_groups();
        let is_limited =
            |group: &&MemoryGroup| group.limit_bytes().is_some_and(|limit_bytes| limit_bytes < machine_bytes);
        let pressure = own
            .iter()
            .filter(is_limited)
            .find_map(|group| File::open(group.folder.join("memory.pressure")).ok())
            .or_else(|| File::open("/proc/pressure/memory").ok());
        let groups = own.iter().filter_map(Group::open).collect();
        let meminfo = File::open("/proc/meminfo").ok();
        Ok(Self { statm, meminfo, pressure, groups, machine_bytes, devices: Vec::new() })
    }

    /// Adds a device to read.
    #[must_use]
    pub fn with_device(mut self, read: Box<ReadDevice>) -> Self {
        self.devices.push(read);
        self
    }

    /// Bytes of this process that are resident now.
    ///
    /// # Errors
    /// [`Error::Probe`] if the kernel does not answer.
    pub fn resident_bytes(&self) -> Result<u64> {
        let pages = with_text(&self.statm, |text| text.split_ascii_whitespace().nth(1)?.parse::<u64>().ok());
        let missing = || Error::Probe { what: "resident pages", path: "/proc/self/statm".into() };
        Ok(pages.ok_or_else(missing)? * PAGE_BYTES)
    }

    /// The control group that has the fewest bytes left: of nested groups it need not be the one with the lowest limit.
    /// `None` if no group limits this process.
    #[must_use]
    pub fn group(&self) -> Option<GroupBytes> {
        nearest_to_limit(&self.groups, self.machine_bytes)
    }

    /// Bytes that the machine could give to programs without swapping (`MemAvailable`).
    #[must_use]
    pub fn available_bytes(&self) -> Option<u64> {
        with_text(self.meminfo.as_ref()?, |text| {
            let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
            line.split_ascii_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
        })
    }

    /// The share of the last ten seconds, in percent, in which some task waited for memory (pressure stall information):
    /// of the control group if it tells, else of the machine.
    #[must_use]
    pub fn pressure_percent(&self) -> Option<f64> {
        with_text(self.pressure.as_ref()?, parse_pressure)
    }

    /// Reads every device into `out` (cleared first).
    pub fn read_devices(&self, out: &mut Vec<DeviceBytes>) {
        out.clear();
        out.extend(self.devices.iter().map(|read| read()));
    }
}

impl std::fmt::Debug for Probe {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { statm, meminfo, pressure, groups, machine_bytes, devices } = self;
        formatter
            .debug_struct("Probe")
            .field("statm", statm)
            .field("meminfo", meminfo)
            .field("pressure", pressure)
            .field("n_groups", &groups.len())
            .field("machine_bytes", machine_bytes)
            .field("n_devices", &devices.len())
            .finish()
    }
}

/// Parses the first 192 bytes of a file, which are read anew into a buffer on the stack.
fn with_text<T>(file: &File, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
    let mut buffer = [0; 192];
    let n_read = file.read_at(&mut buffer, 0).ok()?;
    parse(str::from_utf8(&buffer[..n_read]).ok()?)
}

/// The value of `avg10` in the line `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`.
fn parse_pressure(text: &str) -> Option<f64> {
    let fields = text.lines().next()?.strip_prefix("some ")?;
    fields.split_ascii_whitespace().find_map(|field| field.strip_prefix("avg10="))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_bytes_are_at_most_the_peak() {
        let resident = resident_bytes().unwrap();
        assert!(resident > 0 && resident <= peak_resident_bytes().unwrap());
    }

    #[test]
    fn a_probe_reads_again_what_it_holds_open() {
        let device = DeviceBytes { name: "toy:0", allocated_bytes: 1, reserved_bytes: 2, limit_bytes: 3 };
        let probe = Probe::open().unwrap().with_device(Box::new(move || device));
        let mut devices = Vec::new();
        for _ in 0..2 {
            assert!(probe.resident_bytes().unwrap() <= peak_resident_bytes().unwrap());
            assert!(probe.available_bytes().unwrap() > 0);
            assert!(probe.group().is_none_or(|group| group.limit_bytes > 0));
            probe.read_devices(&mut devices);
            assert_eq!(devices, [device]);
        }
    }

    #[test]
    fn pressure_is_the_share_of_ten_seconds_in_which_some_task_waited() {
        let text = "some avg10=12.34 avg60=1.00 avg300=0.00 total=5\nfull avg10=99.00 avg60=0.00\n";
        assert_eq!(parse_pressure(text), Some(12.34));
        assert_eq!(parse_pressure("full avg10=99.00"), None);
        assert_eq!(parse_pressure(""), None);
    }

    #[test]
    fn of_nested_groups_the_one_nearest_to_its_limit_counts() {
        let folder = tempfile::tempdir().unwrap();
        let group = |name: &str, used: &str, limit: &str| {
            let group = MemoryGroup { folder: folder.path().join(name), is_v2: true };
            std::fs::create_dir_all(&group.folder).unwrap();
            std::fs::write(group.usage_file(), used).unwrap();
            std::fs::write(group.folder.join("memory.max"), limit).unwrap();
            Group::open(&group).unwrap()
        };
        // The group above has the higher limit, and others in it have used it up.
        let groups = [group("a/b", "300", "1000"), group("a", "1900", "2000"), group("", "5000", "max")];
        let nearest = GroupBytes { used_bytes: 1900, limit_bytes: 2000 };
        assert_eq!(nearest_to_limit(&groups, 10_000), Some(nearest));
        std::fs::write(folder.path().join("a/memory.current"), "200").unwrap();
        std::fs::write(folder.path().join("a/b/memory.high"), "900").unwrap();
        let nearest = GroupBytes { used_bytes: 300, limit_bytes: 1000 };
        assert_eq!(nearest_to_limit(&groups, 10_000), Some(nearest), "a file that was not there is not read");
        assert_eq!(nearest_to_limit(&groups[2..], 10_000), None, "a group without a limit does not count");
        assert_eq!(nearest_to_limit(&groups[..1], 1000), None, "nor one above what the machine has");
    }

    #[test]
    fn allowed_bytes_are_never_more_than_the_machine_has() {
        let mut system = sysinfo::System::new();
        system.refresh_memory();
        assert!((1..=system.total_memory()).contains(&allowed_bytes().unwrap()));
    }
}
