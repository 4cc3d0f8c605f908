//! How the memory system asks the learner to use fewer bytes, and what it knows of the learner's own answers.
//!
//! The learner owns its step configuration. The memory system sees what the learner does not (other processes that wait
//! for memory, refusals of other threads) and can only ask. Neither waits for the other. A request changes activation modes
//! alone: it comes with the time of readings, which differs from run to run and must not change a result.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// What the learner and the memory system tell each other.
#[derive(Debug, Default)]
pub struct StepAdvice {
    is_asked: AtomicBool,
    can_use_fewer_bytes: AtomicBool,
    n_answered: AtomicU64,
}

impl StepAdvice {
    /// Asks for a step configuration of fewer bytes from the next learner step on.
    pub fn ask_for_fewer_bytes(&self) {
        self.is_asked.store(true, Relaxed);
    }

    /// Whether a learner listens and has a step configuration of fewer bytes with the same results.
    #[must_use]
    pub fn can_use_fewer_bytes(&self) -> bool {
        self.can_use_fewer_bytes.load(Relaxed)
    }

    /// Number of refused allocations that the learner has answered itself.
    #[must_use]
    pub fn n_answered(&self) -> u64 {
        self.n_answered.load(Relaxed)
    }

    /// Whether it was asked for since the last call.
    pub(crate) fn take_request(&self) -> bool {
        self.is_asked.swap(false, Relaxed)
    }

    pub(crate) fn set_can_use_fewer_bytes(&self, can: bool) {
        self.can_use_fewer_bytes.store(can, Relaxed);
    }

    pub(crate) fn count_answered(&self, n_refused: u64) {
        self.n_answered.fetch_add(n_refused, Relaxed);
    }
}
