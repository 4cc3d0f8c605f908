//! The ceiling of the learner's step configurations, through which the memory system makes the learner use fewer bytes.
//!
//! The learner knows its [step configurations](crate::step::cost), numbered here from 0, the leanest. The memory system
//! knows how memory stands. One number lies between them, the ceiling: the system moves it; the learner reads it before
//! a step and uses no step configuration above it. Neither waits for the other.
//!
//! The ceiling moves with the time of readings, which differs from run to run. A learner that must give one result for
//! one seed therefore declares only activation modes of one micro-batch size, which give the same bits.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The step configurations of a learner, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepConfigRange {
    /// The step configuration that needs the most bytes; 0 needs the fewest.
    pub highest: u32,
    /// The highest step configuration that the learner may use.
    pub ceiling: u32,
    /// Bytes that the step configuration above the ceiling needs beyond those of the ceiling.
    pub raise_bytes: u64,
}

/// The ceiling, shared between the learner and the memory system.
#[derive(Debug, Default)]
pub struct StepCeiling {
    /// The number of step configurations (upper half) and the ceiling (lower half) in one word, so that they change
    /// together. 0 configurations: no learner has declared any.
    packed: AtomicU64,
    raise_bytes: AtomicU64,
}

impl StepCeiling {
    /// States that the learner has `n_step_configs` step configurations (1 or more), all of which it may use for now.
    pub fn declare(&self, n_step_configs: u32) {
        self.packed.store(pack(n_step_configs, n_step_configs.saturating_sub(1)), Relaxed);
    }

    /// Sets how many more bytes the step configuration above the ceiling needs.
    pub fn set_raise_bytes(&self, bytes: u64) {
        self.raise_bytes.store(bytes, Relaxed);
    }

    /// The highest step configuration that the learner may use.
    #[must_use]
    pub fn ceiling(&self) -> u32 {
        unpack(self.packed.load(Relaxed)).1
    }

    /// The declared step configurations; `None` if no learner has declared any.
    #[must_use]
    pub fn range(&self) -> Option<StepConfigRange> {
        let (n_step_configs, ceiling) = unpack(self.packed.load(Relaxed));
        let highest = n_step_configs.checked_sub(1)?;
        Some(StepConfigRange { highest, ceiling, raise_bytes: self.raise_bytes.load(Relaxed) })
    }

    pub(crate) fn lower(&self) {
        self.change(|_, ceiling| ceiling.saturating_sub(1));
    }

    pub(crate) fn raise(&self) {
        self.change(|n_step_configs, ceiling| (ceiling + 1).min(n_step_configs.saturating_sub(1)));
    }

    fn change(&self, next: impl Fn(u32, u32) -> u32) {
        // The closure never returns `None`, so the update cannot fail.
        let _ = self.packed.fetch_update(Relaxed, Relaxed, |word| {
            let (n_step_configs, ceiling) = unpack(word);
            Some(pack(n_step_configs, next(n_step_configs, ceiling)))
        });
    }
}

fn pack(n_step_configs: u32, ceiling: u32) -> u64 {
    u64::from(n_step_configs) << 32 | u64::from(ceiling)
}

fn unpack(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_stays_among_the_step_configs() {
        let ceiling = StepCeiling::default();
        assert_eq!((ceiling.range(), ceiling.ceiling()), (None, 0));
        ceiling.raise();
        assert_eq!(ceiling.range(), None);
        ceiling.declare(3);
        ceiling.set_raise_bytes(7);
        assert_eq!(ceiling.range(), Some(StepConfigRange { highest: 2, ceiling: 2, raise_bytes: 7 }));
        ceiling.raise();
        assert_eq!(ceiling.ceiling(), 2);
        for lowered in [1, 0, 0] {
            ceiling.lower();
            assert_eq!(ceiling.ceiling(), lowered);
        }
    }
}
