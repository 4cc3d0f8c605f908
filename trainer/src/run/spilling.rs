//! What becomes of learner steps whose spill folder fails while the run goes on: its disk is full, or it was removed.
//!
//! Recomputing gives the same bits and needs no disk. So a step whose activations could not be written or read is made
//! again that way, and so are all steps after it.

use memsys::nn::activations::{self, StageModes};

use crate::console::say_always;
use crate::error::{Error, Result, without_frames};

/// Whether the spill folder still serves.
#[derive(Debug, Default)]
pub(super) struct Spilling {
    has_failed: bool,
}

impl Spilling {
    /// Runs one attempt at a learner step in `modes`. An attempt that spills and fails because of the folder is run again with
    /// `recompute` in place of `spill`. An attempt that fails must have changed nothing.
    ///
    /// # Errors
    /// With the error of `attempt`.
    pub(super) fn run<T>(
        &mut self,
        modes: StageModes,
        attempt: &mut dyn FnMut(StageModes) -> Result<T>,
    ) -> Result<T> {
        if !modes.any_spills() {
            return attempt(modes);
        }
        if !self.has_failed {
            let n_failed = activations::n_failed_spills();
            let error = match attempt(modes) {
                Err(error) if activations::n_failed_spills() > n_failed => error,
                attempted => return attempted,
            };
            self.has_failed = true;
            let problem = error.to_string();
            say_always(&format!(
                "{}: from now on activations are recomputed, with the same results",
                without_frames(&problem)
            ));
            activations::release_failed_backward().map_err(Error::from)?;
        }
        attempt(modes.without_spilling())
    }
}
