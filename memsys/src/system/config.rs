//! Settings of the memory limit and of the means to stay below it.

use std::path::PathBuf;

use documented::{Documented, DocumentedFields};
use serde::{Deserialize, Serialize};

use crate::limit::MemoryLimit;
use crate::settings::{Check, Settings, above, above_up_to, optional, size};
use crate::step::activation_mode::ActivationMode;

/// The activation modes that a run may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActivationChoice {
    /// For each stage one of the three: the fastest that fit.
    Auto,
    /// Only [`ActivationMode::Keep`].
    Keep,
    /// Only [`ActivationMode::Recompute`].
    Recompute,
    /// Only [`ActivationMode::Spill`].
    Spill,
}

impl ActivationChoice {
    /// The allowed modes, the fastest first.
    #[must_use]
    pub fn modes(self) -> Vec<ActivationMode> {
        match self {
            Self::Auto => vec![ActivationMode::Keep, ActivationMode::Recompute, ActivationMode::Spill],
            Self::Keep => vec![ActivationMode::Keep],
            Self::Recompute => vec![ActivationMode::Recompute],
            Self::Spill => vec![ActivationMode::Spill],
        }
    }
}

/// The memory limit: what the whole process may hold in memory, and the means to stay below it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Documented, DocumentedFields)]
#[serde(deny_unknown_fields)]
pub struct MemorySettings {
    /// The memory limit: a size such as `2GiB` or `1.5GB`, a number of bytes, or a share of what the machine or its
    /// control group allows, such as `60%`.
    pub limit: MemoryLimit,
    /// The device limit, for a run on a GPU: what the process may take from the GPU's memory. A size, or a share of what is
    /// free there at the start, such as `90%`.
    pub device_limit: MemoryLimit,
    /// `true`: every byte is counted, the memory limit is enforced, and a learner step that does not fit is repeated in
    /// fewer bytes. `false`: a baseline for comparisons: the replay copies whole observations, a batch goes through the
    /// network at once, attention is the plain product, and nothing is refused.
    pub managed: bool,
    /// `false`: nothing is counted, monitored or refused, but everything else is as in a managed run. This measures the
    /// cost of counting.
    pub counted: bool,
    /// The activation mode, for activations between forward and backward: `keep`, `recompute`, `spill` (write them to
    /// a file and read them back), or `auto` (for each stage of the network one of the three: the fastest that fit).
    /// All modes give the same results to the bit.
    pub activations: ActivationChoice,
    /// Mode `spill` keeps tensors smaller than this in memory.
    #[serde(with = "size")]
    pub spill_threshold: u64,
    /// The folder for the unnamed files of mode `spill`. If empty, it is the run's folder. It should be on a disk and
    /// not in memory, as /tmp may be.
    #[serde(with = "optional")]
    pub spill_folder: Option<PathBuf>,
    /// `true`: on a GPU, each gradient moves to host memory during backward, as soon as it is complete.
    pub offload_gradients: bool,
    /// The fewest transitions that go through the network at once; at most `agent.micro_batch`.
    pub smallest_micro_batch: usize,
    /// Share of the memory limit at which the run prints a warning. Caches do not count: they are freed where the limit
    /// needs the room.
    pub memory_warning_threshold: f64,
    /// Share of the memory limit at which memory is critical and the replay gives bytes back. At least
    /// `memory_warning_threshold`.
    pub memory_critical_threshold: f64,
    /// Time between two readings of memory.
    pub monitoring_interval: f64,
    /// For tests: every n-th allocation of each thread, in every phase of a run but the profile, is refused as if it did
    /// not fit. 0 refuses none.
    pub refuse_every: u64,
}

impl Default for MemorySettings {
    fn default() -> Self {
        Self {
            limit: MemoryLimit::Percent(80.0),
            device_limit: MemoryLimit::Percent(90.0),
            managed: true,
            counted: true,
            activations: ActivationChoice::Auto,
            spill_threshold: 64 << 10,
            spill_folder: None,
            offload_gradients: false,
            smallest_micro_batch: 8,
            memory_warning_threshold: 0.75,
            memory_critical_threshold: 0.90,
            monitoring_interval: 5.0,
            refuse_every: 0,
        }
    }
}

impl Settings for MemorySettings {
    fn check(&self, check: &mut Check) {
        let share = "share of the memory limit";
        check.range("spill_threshold", self.spill_threshold, 0.., "bytes");
        check.range("smallest_micro_batch", self.smallest_micro_batch, 1..=65_536, "transitions");
        let (warning, critical) = (self.memory_warning_threshold, self.memory_critical_threshold);
        check.range("memory_warning_threshold", warning, above_up_to(0.0, 1.0), share);
        check.range("memory_critical_threshold", critical, above_up_to(0.0, 1.0), share);
        check.range("monitoring_interval", self.monitoring_interval, above(0.0), "seconds");
        check.range("refuse_every", self.refuse_every, 0.., "allocations");
        check.agree(["memory_critical_threshold", "memory_warning_threshold"], critical >= warning, || {
            format!(
                "memory_critical_threshold {critical} is below memory_warning_threshold {warning}: memory would be \
                 critical before it is worth a warning; raise the first or lower the second"
            )
        });
    }
}
