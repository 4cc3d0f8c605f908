//! A snapshot: the state of memory at one moment, in plain values.
//!
//! Everything that decides about memory takes a snapshot and reads nothing else, so a test can use made-up values and a
//! log can be replayed. A reading reuses the snapshot's vectors: after the first few readings it allocates nothing.

use crate::error::Result;
use crate::ledger::budget;
use crate::ledger::{self, OwnerBytes};
use crate::os::probe::{DeviceBytes, GroupBytes, Probe};

/// One reading of memory.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Snapshot {
    /// Milliseconds since the memory system started.
    pub at_millis: u64,
    /// The event that asked for this reading; `None` if the monitor's interval had passed.
    pub event: Option<&'static str>,
    /// The memory limit in bytes; `u64::MAX` if none is set.
    pub limit_bytes: u64,
    /// Bytes of the process that are resident.
    pub resident_bytes: u64,
    /// Bytes that have an owner.
    pub counted_bytes: u64,
    /// Resident bytes less counted bytes; negative while counted bytes are not resident yet.
    pub residual_bytes: i64,
    /// Bytes under the memory limit that are set aside for the residual.
    pub residual_allowance_bytes: u64,
    /// Bytes of live tensors.
    pub tensor_bytes: u64,
    /// Counted bytes that a collection would give back: what caches and free blocks of tensors hold for reuse. They are
    /// given back as soon as the memory limit needs the room.
    pub collectable_bytes: u64,
    /// Bytes that can be allocated before a collection is needed.
    pub headroom_bytes: u64,
    /// The highest [`loaded_bytes`](Self::loaded_bytes) so far. Between readings only counted bytes are tracked.
    pub peak_loaded_bytes: u64,
    /// Number of allocations refused so far.
    pub n_denied: u64,
    /// Number of collections so far.
    pub n_collections: u64,
    /// Every owner that holds or held bytes, in the order in which they were first named.
    pub owners: Vec<OwnerBytes>,
    /// The control group with the lowest limit, if one limits the process.
    pub group: Option<GroupBytes>,
    /// Bytes that the machine could give to programs without swapping, if the kernel tells.
    pub available_bytes: Option<u64>,
    /// Share of the last ten seconds in which some task waited for memory, in percent, if the kernel tells.
    pub pressure_percent: Option<f64>,
    /// What the process holds on each device.
    pub devices: Vec<DeviceBytes>,
}

impl Snapshot {
    /// The bytes that the process uses: the resident bytes, or, if that is more, what the budget compares with the limit
    /// (counted bytes plus the residual's allowance).
    #[must_use]
    pub fn loaded_bytes(&self) -> u64 {
        self.resident_bytes.max(self.counted_bytes.saturating_add(self.residual_allowance_bytes))
    }

    /// [`loaded_bytes`](Self::loaded_bytes) less [`collectable_bytes`](Self::collectable_bytes): what no collection can
    /// change. Caches are given back as soon as the memory limit needs the room, so a full one must not raise an alarm.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.loaded_bytes().saturating_sub(self.collectable_bytes)
    }

    /// Whether a memory limit is set.
    #[must_use]
    pub fn has_limit(&self) -> bool {
        (1..u64::MAX).contains(&self.limit_bytes)
    }

    /// [`held_bytes`](Self::held_bytes) as a fraction of the memory limit; 0 if none is set.
    #[must_use]
    pub fn held_fraction(&self) -> f64 {
        if self.has_limit() { self.held_bytes() as f64 / self.limit_bytes as f64 } else { 0.0 }
    }
}

/// Reads everything into `out` except `at_millis` and `event`, which the memory system sets. The peak only rises.
///
/// # Errors
/// [`Error::Probe`](crate::Error::Probe) if the kernel does not tell the resident bytes; `out` then stays as it was.
pub fn read(probe: &Probe, out: &mut Snapshot) -> Result<()> {
    // The higher of the two counts: bytes freed while `/proc` is read must not appear as a residual.
    let counted_before = ledger::counted_bytes();
    out.resident_bytes = probe.resident_bytes()?;
    out.counted_bytes = ledger::counted_bytes().max(counted_before);
    out.residual_bytes = out.resident_bytes.cast_signed() - out.counted_bytes.cast_signed();
    out.residual_allowance_bytes = budget::residual_allowance_bytes();
    out.limit_bytes = budget::limit_bytes();
    out.tensor_bytes = ledger::tensor_bytes();
    out.collectable_bytes = budget::collectable_bytes();
    out.headroom_bytes = budget::headroom_bytes();
    let peak_counted_bytes = ledger::peak_counted_bytes() + out.residual_allowance_bytes;
    out.peak_loaded_bytes = out.peak_loaded_bytes.max(peak_counted_bytes).max(out.loaded_bytes());
    out.n_denied = budget::n_denied();
    out.n_collections = budget::n_collections();
    ledger::read_owners(&mut out.owners);
    out.group = probe.group();
    out.available_bytes = probe.available_bytes();
    out.pressure_percent = probe.pressure_percent();
    probe.read_devices(&mut out.devices);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ledger::reclaimable::{self, Generation, Reclaimable};

    #[test]
    fn a_full_cache_is_not_held() {
        let snapshot = Snapshot {
            limit_bytes: 1000,
            resident_bytes: 900,
            counted_bytes: 800,
            collectable_bytes: 400,
            ..Snapshot::default()
        };
        assert_eq!((snapshot.loaded_bytes(), snapshot.held_bytes()), (900, 500));
        assert!((snapshot.held_fraction() - 0.5).abs() < 1e-12);
    }

    #[test]
    fn what_is_promised_counts_before_it_is_touched() {
        let snapshot = Snapshot {
            limit_bytes: 1000,
            resident_bytes: 100,
            counted_bytes: 700,
            residual_allowance_bytes: 50,
            ..Snapshot::default()
        };
        assert_eq!(snapshot.held_bytes(), 750);
    }

    #[test]
    fn without_a_limit_nothing_is_near_it() {
        let snapshot = Snapshot { limit_bytes: u64::MAX, resident_bytes: 1 << 40, ..Snapshot::default() };
        assert!(snapshot.held_fraction() <= 0.0);
    }

    #[test]
    fn what_any_cache_can_give_back_is_not_held() {
        struct Cache;
        impl Reclaimable for Cache {
            fn name(&self) -> &'static str {
                "a cache of this test"
            }
            fn generation(&self) -> Generation {
                Generation::Caches
            }
            fn restore_nanos_per_byte(&self) -> f64 {
                1.0
            }
            fn bytes(&self) -> u64 {
                1 << 40
            }
            fn give_back(&self, _: u64) -> u64 {
                0
            }
        }
        let registration = reclaimable::register(Arc::new(Cache));
        let mut snapshot = Snapshot::default();
        read(&Probe::open().unwrap(), &mut snapshot).unwrap();
        drop(registration);
        assert!(snapshot.collectable_bytes >= 1 << 40, "{}", snapshot.collectable_bytes);
    }

    #[test]
    fn readings_reuse_their_room() {
        let probe = Probe::open().unwrap();
        let mut snapshot = Snapshot::default();
        read(&probe, &mut snapshot).unwrap();
        let peak = snapshot.peak_loaded_bytes;
        assert!(snapshot.resident_bytes > 0 && peak >= snapshot.loaded_bytes());
        snapshot.owners.reserve(64);
        let room = (snapshot.owners.as_ptr(), snapshot.owners.capacity());
        read(&probe, &mut snapshot).unwrap();
        assert_eq!((snapshot.owners.as_ptr(), snapshot.owners.capacity()), room);
        assert!(snapshot.peak_loaded_bytes >= peak);
    }
}
