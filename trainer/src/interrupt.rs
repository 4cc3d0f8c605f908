//! Whether this process was asked to stop, by a signal.
//!
//! Long work looks at it between two blocks: rows of a file, learner steps, embedded positions of an evaluation. So a
//! process that is asked to stop ends within seconds. A run saves first, and what was left undone is done when it is
//! resumed.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};

static IS_ASKED: AtomicBool = AtomicBool::new(false);

/// Asks the process to stop. It cannot be taken back.
pub fn ask() {
    IS_ASKED.store(true, Ordering::Relaxed);
}

/// Whether the process was asked to stop.
#[must_use]
pub fn is_asked() -> bool {
    IS_ASKED.load(Ordering::Relaxed)
}

/// Ends the work of the caller where the process was asked to stop.
///
/// # Errors
/// [`Error::Interrupted`] if it was.
pub fn check() -> Result<()> {
    if is_asked() { Err(Error::Interrupted) } else { Ok(()) }
}
