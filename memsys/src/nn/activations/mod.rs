//! Keeps, recomputes or spills the tensors that forward saves for backward.
//!
//! ```text
//!              forward                          backward
//! keep         saved tensors stay               uses them
//! recompute    only the stage's input stays     runs the stage again and uses its saved tensors one by one
//! spill        storages go to a file            reads each storage once and frees it after the last use
//! ```
//!
//! Each stage of a network has a mode of its own. All choices give the same gradients to the bit. A scope holds for the
//! thread that enters it and for the tensors saved in it; outside of scopes libtorch saves tensors as usual. Parameters
//! are never moved.
//!
//! The mechanism is libtorch's saved-tensor hooks. Hooks disable libtorch's check for writes in place, so recompute and
//! spill do that check themselves: such a write is an error of backward, as it is without hooks.
//!
//! This module does not choose the activation modes ([`step::cost`](crate::step::cost) does), and it knows no networks:
//! [`sequential`] takes stages, and [`traced`] measures them.

mod recompute;
mod spill;
#[cfg(test)]
mod tests;
mod trace;

use std::path::PathBuf;

pub use recompute::{Stage, sequential};
pub use spill::{SpilledBytes, check_spill_folder, n_failed_spills, spilled_bytes};
pub use trace::traced;

use crate::error::Result;
use crate::libtorch;
pub use crate::step::activation_mode::ActivationMode;
pub use crate::step::stage_modes::{REST, StageModes};

/// The activation modes and their options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The activation mode of each stage.
    pub modes: StageModes,
    /// For spill: storages of fewer bytes stay in memory. In the file each storage takes whole pages of 4 KiB.
    pub threshold_bytes: u64,
    /// For spill: an existing folder for the files. The files have no name there and vanish with the scope.
    pub spill_folder: PathBuf,
}

impl Default for Options {
    /// Keep; 64 KiB; the system's folder for temporary files.
    fn default() -> Self {
        let spill_folder = std::env::temp_dir();
        Self { modes: StageModes::default(), threshold_bytes: 64 << 10, spill_folder }
    }
}

/// Applies activation modes to the thread that entered it, until the scope is dropped. The innermost scope decides.
#[derive(Debug)]
#[must_use = "the activation modes hold while the scope lives"]
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
/// [`crate::Error::SpillFolder`] if a stage spills and a file cannot be made in the folder.
pub fn enter(options: &Options) -> Result<Scope> {
    install()?;
    let spills = options.modes.any_spills();
    let spill = spills.then(|| spill::open(&options.spill_folder, options.threshold_bytes)).transpose()?;
    Ok(Scope { _scope: libtorch::Scope::enter(options.modes.packed(), spill)? })
}

/// Frees the tensors that a failed backward on this thread still holds: libtorch's engine keeps the nodes that were ready
/// to run, with what they saved, until the thread's next backward. This function runs a backward of one number.
///
/// # Errors
/// If the memory for that number is refused.
pub fn release_failed_backward() -> Result<()> {
    libtorch::release_failed_backward()
}
