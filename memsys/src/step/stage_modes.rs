//! Which activation mode each stage of a network has.
//!
//! A stage is a place in the network's code with a number: a layer, a transformer block. All passes through it have the
//! same mode. Numbers belong to the network; what lies in no stage has the number [`REST`].

use std::fmt;

use crate::step::activation_mode::ActivationMode;

/// The number of stages that can have modes of their own, the rest included.
pub const N_STAGES: usize = 32;
/// The number of the stage of all that lies in no stage. It cannot recompute: under
/// [`Recompute`](ActivationMode::Recompute) it keeps.
pub const REST: usize = N_STAGES - 1;

/// One activation mode for each stage. Every choice gives the same gradients to the bit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct StageModes {
    /// Two bits a stage; `csrc/activations.cpp` reads them.
    packed: u64,
}

impl StageModes {
    /// Every stage, the rest included, has `mode`.
    #[must_use]
    pub const fn all(mode: ActivationMode) -> Self {
        Self { packed: 0x5555_5555_5555_5555 * bits(mode) }
    }

    /// The same modes with another one for `stage`. Stages from [`REST`] on are the rest.
    #[must_use]
    pub fn with(self, stage: usize, mode: ActivationMode) -> Self {
        let shift = 2 * stage.min(REST);
        Self { packed: self.packed & !(3 << shift) | bits(mode) << shift }
    }

    /// The mode of `stage`.
    #[must_use]
    pub fn of(self, stage: usize) -> ActivationMode {
        match self.packed >> (2 * stage.min(REST)) & 3 {
            1 => ActivationMode::Recompute,
            2 => ActivationMode::Spill,
            _ => ActivationMode::Keep,
        }
    }

    /// The mode that all stages have; `None` if they differ.
    #[must_use]
    pub fn uniform(self) -> Option<ActivationMode> {
        let first = self.of(REST);
        (self == Self::all(first)).then_some(first)
    }

    /// Whether any stage spills.
    #[must_use]
    pub fn any_spills(self) -> bool {
        self.count(ActivationMode::Spill) > 0
    }

    /// The same modes with [`ActivationMode::Recompute`] in place of [`ActivationMode::Spill`].
    #[must_use]
    pub fn without_spilling(self) -> Self {
        (0..N_STAGES)
            .filter(|stage| self.of(*stage) == ActivationMode::Spill)
            .fold(self, |modes, stage| modes.with(stage, ActivationMode::Recompute))
    }

    fn count(self, mode: ActivationMode) -> usize {
        (0..N_STAGES).filter(|stage| self.of(*stage) == mode).count()
    }

    #[cfg(feature = "libtorch")]
    pub(crate) fn packed(self) -> u64 {
        self.packed
    }

    #[cfg(feature = "libtorch")]
    pub(crate) fn unpacked(packed: u64) -> Self {
        Self { packed }
    }
}

impl From<ActivationMode> for StageModes {
    fn from(mode: ActivationMode) -> Self {
        Self::all(mode)
    }
}

/// One word where all stages have one mode, else the number of the stages that do not keep.
impl fmt::Display for StageModes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(mode) = self.uniform() {
            return formatter.write_str(mode.word());
        }
        formatter.write_str(ActivationMode::Keep.word())?;
        for mode in [ActivationMode::Recompute, ActivationMode::Spill] {
            match self.count(mode) {
                0 => {}
                1 => write!(formatter, ", {} 1 stage", mode.word())?,
                n => write!(formatter, ", {} {n} stages", mode.word())?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for StageModes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = |stage| self.of(stage).word().chars().next().unwrap_or_default();
        write!(formatter, "StageModes({})", (0..N_STAGES).map(letter).collect::<String>())
    }
}

const fn bits(mode: ActivationMode) -> u64 {
    match mode {
        ActivationMode::Keep => 0,
        ActivationMode::Recompute => 1,
        ActivationMode::Spill => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stage_has_the_mode_that_it_was_given() {
        let modes = [ActivationMode::Keep, ActivationMode::Recompute, ActivationMode::Spill];
        for all in modes {
            assert_eq!(StageModes::all(all).uniform(), Some(all));
            for (stage, mode) in (0..N_STAGES).flat_map(|stage| modes.map(|mode| (stage, mode))) {
                let changed = StageModes::all(all).with(stage, mode);
                for other in 0..N_STAGES {
                    assert_eq!(changed.of(other), if other == stage { mode } else { all });
                }
                assert_eq!(changed.uniform().is_some(), mode == all);
                let spills = all == ActivationMode::Spill || mode == ActivationMode::Spill;
                assert_eq!(changed.any_spills(), spills, "{changed:?}");
                let without = changed.without_spilling();
                assert!(!without.any_spills(), "{without:?}");
                assert_eq!(without == changed, !spills, "{changed:?}");
            }
        }
    }

    #[test]
    fn modes_are_told_in_one_word_or_by_what_does_not_keep() {
        let keep = StageModes::default();
        assert_eq!(keep.to_string(), "keep");
        assert_eq!(StageModes::from(ActivationMode::Spill).to_string(), "spill");
        let mixed = keep.with(3, ActivationMode::Spill).with(4, ActivationMode::Spill);
        assert_eq!(mixed.to_string(), "keep, spill 2 stages");
        let mixed = mixed.with(3, ActivationMode::Recompute);
        assert_eq!(mixed.to_string(), "keep, recompute 1 stage, spill 1 stage");
    }
}
