//! What happens to the tensors that forward saves for backward: kept, recomputed or spilled.
//!
//! ```text
//!              forward                          backward
//! keep         saved tensors stay               used as they are
//! recompute    only the input of each group     the group runs again, its saved tensors are used one by one
//! spill        storages go to a file            read back, each once, and freed after the last use
//! ```
//!
//! All three give the same gradients to the bit. A scope holds for the thread that enters it and for the tensors
//! saved in it; outside of scopes libtorch saves as ever. Its mechanism is libtorch's saved-tensor hooks, which
//! switch libtorch's own check for writes in place off: both activation modes check themselves, and such a write is an error
//! of backward as without them. Parameters are never moved.
//!
//! It does not choose an activation mode: that is the step configuration's part. Neither does it know networks: [`sequential`] is given
//! stages.

mod recompute;
mod spill;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

pub use recompute::{Stage, sequential};
pub use spill::{SpilledBytes, spilled_bytes};

use crate::error::Result;
use crate::libtorch;
pub use crate::step::activation_mode::ActivationMode;

/// An activation mode and its particulars.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// What becomes of saved tensors.
    pub mode: ActivationMode,
    /// Groups that a chain of stages is cut into at most, where it is recomputed; 1 or more, 0 keeps.
    pub segments: usize,
    /// Storages of fewer bytes are not spilled. In the file each takes whole pages of 4 KiB.
    pub threshold_bytes: u64,
    /// The folder of spill files, which exists. Files have no name in it and vanish with the scope.
    pub spill_folder: PathBuf,
}

impl Default for Options {
    /// Keeps; 4 groups; 64 KiB; the system's folder for temporary files.
    fn default() -> Self {
        let spill_folder = std::env::temp_dir();
        Self { mode: ActivationMode::Keep, segments: 4, threshold_bytes: 64 << 10, spill_folder }
    }
}

/// Holds an activation mode for the thread that entered it, until it is dropped. The innermost scope decides.
#[derive(Debug)]
#[must_use = "the activation mode holds while the scope lives"]
pub struct Scope {
    _scope: libtorch::Scope,
}

/// Installs the hooks' engine in libtorch; [`enter`] does it too. Calling it before the process's first backward
/// spares libtorch a second set of threads on a GPU.
///
/// # Errors
/// Where libtorch refuses.
pub fn install() -> Result<()> {
    libtorch::install_engine()
}

/// Enters a scope: put it around forward and backward of a micro-batch.
///
/// # Errors
/// [`crate::Error::SpillFolder`] where the activation mode spills and no file can be made in the folder.
pub fn enter(options: &Options) -> Result<Scope> {
    install()?;
    let (n_segments, spill) = match options.mode {
        ActivationMode::Keep => (0, None),
        ActivationMode::Recompute => (options.segments as u64, None),
        ActivationMode::Spill => (0, Some(spill::open(&options.spill_folder, options.threshold_bytes)?)),
    };
    Ok(Scope { _scope: libtorch::Scope::enter(n_segments, spill)? })
}

/// Frees what a backward that failed on this thread still holds: libtorch's engine keeps the nodes that were ready
/// to run, and with them what they saved, until the thread's next backward. Runs one of a single number.
///
/// # Errors
/// Where libtorch refuses the memory of a number.
pub fn release_failed_backward() -> Result<()> {
    libtorch::release_failed_backward()
}
