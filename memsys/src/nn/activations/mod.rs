//! Keeps, recomputes or spills the tensors that forward saves for backward.
//!
//! ```text
//!              forward                          backward
//! keep         saved tensors stay               uses them
//! recompute    only each group's input stays    runs the group again and uses its saved tensors one by one
//! spill        storages go to a file            reads each storage once and frees it after the last use
//! ```
//!
//! All three modes give the same gradients to the bit. A scope holds for the thread that enters it and for the tensors
//! saved in it; outside of scopes libtorch saves tensors as usual. Parameters are never moved.
//!
//! The mechanism is libtorch's saved-tensor hooks. Hooks disable libtorch's check for writes in place, so recompute and
//! spill do that check themselves: such a write is an error of backward, as it is without hooks.
//!
//! This module does not choose the activation mode ([`step::cost`](crate::step::cost) does), and it knows no networks:
//! [`sequential`] takes stages.

mod recompute;
mod spill;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

pub use recompute::{Stage, sequential};
pub use spill::{SpilledBytes, check_spill_folder, n_failed_spills, spilled_bytes};

use crate::error::Result;
use crate::libtorch;
pub use crate::step::activation_mode::ActivationMode;

/// An activation mode and its options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The activation mode.
    pub mode: ActivationMode,
    /// For recompute: the largest number of groups into which a chain of stages is cut, 1 or more. 0 keeps activations.
    pub segments: usize,
    /// For spill: storages of fewer bytes stay in memory. In the file each storage takes whole pages of 4 KiB.
    pub threshold_bytes: u64,
    /// For spill: an existing folder for the files. The files have no name there and vanish with the scope.
    pub spill_folder: PathBuf,
}

impl Default for Options {
    /// Keep; 4 groups; 64 KiB; the system's folder for temporary files.
    fn default() -> Self {
        let spill_folder = std::env::temp_dir();
        Self { mode: ActivationMode::Keep, segments: 4, threshold_bytes: 64 << 10, spill_folder }
    }
}

/// Applies an activation mode to the thread that entered it, until the scope is dropped. The innermost scope decides.
#[derive(Debug)]
#[must_use = "the activation mode holds while the scope lives"]
pub struct Scope {
    _scope: libtorch::Scope,
}

/// Installs the autograd engine that applies the hooks; [`enter`] does it too. Call it before the first backward of the
/// process, so that libtorch does not start a second set of threads for a GPU.
///
/// # Errors
/// If the call to libtorch fails.
pub fn install() -> Result<()> {
    libtorch::install_engine()
}

/// Enters a scope. Put it around forward and backward of a micro-batch.
///
/// # Errors
/// [`crate::Error::SpillFolder`] if the mode is spill and a file cannot be made in the folder.
pub fn enter(options: &Options) -> Result<Scope> {
    install()?;
    let (n_segments, spill) = match options.mode {
        ActivationMode::Keep => (0, None),
        ActivationMode::Recompute => (options.segments as u64, None),
        ActivationMode::Spill => (0, Some(spill::open(&options.spill_folder, options.threshold_bytes)?)),
    };
    Ok(Scope { _scope: libtorch::Scope::enter(n_segments, spill)? })
}

/// Frees the tensors that a failed backward on this thread still holds: libtorch's engine keeps the nodes that were ready
/// to run, with what they saved, until the thread's next backward. This function runs a backward of one number.
///
/// # Errors
/// If the memory for that number is refused.
pub fn release_failed_backward() -> Result<()> {
    libtorch::release_failed_backward()
}
