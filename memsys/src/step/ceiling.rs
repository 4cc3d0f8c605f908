//! The ceiling of the learner's step configurations: the training optimizer's share in keeping to the memory limit.
//!
//! The learner knows its [`step_configs`](crate::step::cost), here counted from the leanest, 0; the system knows how memory stands.
//! Between them is one number, the ceiling: the system moves it, the learner asks for it before a step and uses no step configuration
//! above it. Neither waits for the other.
//!
//! The ceiling moves by the clock. A learner whose seed must give one result lets it choose among activation modes of one
//! micro-batch alone, which give the same bits.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Where the step configurations stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepConfigRange {
    /// The dearest step configuration that there is; 0 is the cheapest.
    pub highest: u32,
    /// The dearest step configuration that may be used.
    pub ceiling: u32,
    /// Bytes that the step configuration above the ceiling needs on top of the ceiling's.
    pub raise_bytes: u64,
}

/// The ceiling, shared between the learner and the system.
#[derive(Debug, Default)]
pub struct StepCeiling {
    /// Highest and ceiling in one word, so that they change together; 0 in its upper half: no learner yet.
    step_configs: AtomicU64,
    raise_bytes: AtomicU64,
}

impl StepCeiling {
    /// The learner has `n_step_configs` step configurations (1 or more) and may use all of them for now.
    pub fn declare(&self, n_step_configs: u32) {
        self.step_configs.store(packed(n_step_configs, n_step_configs.saturating_sub(1)), Relaxed);
    }

    /// The learner's measure of what the step configuration above the ceiling needs on top.
    pub fn set_raise_bytes(&self, bytes: u64) {
        self.raise_bytes.store(bytes, Relaxed);
    }

    /// The dearest step configuration that may be used.
    #[must_use]
    pub fn ceiling(&self) -> u32 {
        unpacked(self.step_configs.load(Relaxed)).1
    }

    /// Where the step configurations stand; `None` where no learner declared any.
    #[must_use]
    pub fn range(&self) -> Option<StepConfigRange> {
        let (n_step_configs, ceiling) = unpacked(self.step_configs.load(Relaxed));
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
        // The closure always answers, so the update always happens.
        let _ = self.step_configs.fetch_update(Relaxed, Relaxed, |step_configs| {
            let (n_step_configs, ceiling) = unpacked(step_configs);
            Some(packed(n_step_configs, next(n_step_configs, ceiling)))
        });
    }
}

fn packed(n_step_configs: u32, ceiling: u32) -> u64 {
    u64::from(n_step_configs) << 32 | u64::from(ceiling)
}

fn unpacked(step_configs: u64) -> (u32, u32) {
    ((step_configs >> 32) as u32, step_configs as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_stays_among_the_rungs() {
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
