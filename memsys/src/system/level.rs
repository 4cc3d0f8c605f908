//! Levels: how near the memory limit is, with hysteresis and a cool-down, and the thresholds at which they change.
//!
//! ```text
//!         fraction of the memory limit held       0.70   0.75          0.85   0.90
//! Normal ───────────────────────────────────────> Warning ─────────────> Critical      told once each
//!        <──────────────────────────────── Warning    <────────── Critical             silent
//! ```
//!
//! The process leaves a level only when the fraction falls by a margin below the level's threshold. The same level is
//! not told again within a cool-down; a crossing that happens meanwhile is told at its end if it still holds. This is a
//! plain state machine: the caller gives it the time, and tells people itself ([`alerts`](crate::system::alerts)).

use std::fmt;

/// How near the memory limit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Level {
    /// Far enough.
    #[default]
    Normal,
    /// 75 % of the memory limit are held.
    Warning,
    /// 90 % of the memory limit are held.
    Critical,
}

impl fmt::Display for Level {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Normal => "normal",
            Self::Warning => "warning",
            Self::Critical => "critical",
        })
    }
}

/// Where policies and alerts set in. Fractions are of the memory limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds {
    /// From here on: [`Level::Warning`].
    pub warning_fraction: f64,
    /// From here on: [`Level::Critical`].
    pub critical_fraction: f64,
    /// A level is left when the fraction is this much below its threshold.
    pub hysteresis_fraction: f64,
    /// Between two alerts of one level, and between two reliefs of one pressure, in milliseconds.
    pub cooldown_millis: u64,
    /// Pressure from which caches are collected, in percent of the last ten seconds.
    pub pressure_percent: f64,
    /// The residual's budget, as a fraction of the resident bytes…
    pub residual_fraction: f64,
    /// … and at least so many bytes.
    pub residual_floor_bytes: u64,
    /// Between two trims of the heap, in milliseconds.
    pub trim_interval_millis: u64,
    /// Calm after which the step configuration is raised, in milliseconds.
    pub calm_millis: u64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            warning_fraction: 0.75,
            critical_fraction: 0.90,
            hysteresis_fraction: 0.05,
            cooldown_millis: 30_000,
            pressure_percent: 10.0,
            residual_fraction: 0.05,
            residual_floor_bytes: 32 << 20,
            trim_interval_millis: 60_000,
            calm_millis: 60_000,
        }
    }
}

impl Thresholds {
    /// Bytes that may be resident without an owner before something is done about it.
    #[must_use]
    pub fn residual_budget_bytes(&self, resident_bytes: u64) -> u64 {
        ((resident_bytes as f64 * self.residual_fraction) as u64).max(self.residual_floor_bytes)
    }
}

/// The level over time: a plain state machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Levels {
    level: Level,
    /// A crossing that was not told yet.
    is_due: bool,
    /// When the warning and the critical level were last told.
    told_at_millis: [Option<u64>; 2],
}

impl Levels {
    /// The level of the last step.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level
    }

    /// Takes the fraction of the memory limit that is held at `now_millis`; returns the level where it is to be told now.
    pub fn step(&mut self, fraction: f64, now_millis: u64, thresholds: &Thresholds) -> Option<Level> {
        let level = self.next(fraction, thresholds);
        if level != self.level {
            self.is_due = level > self.level;
            self.level = level;
        }
        let told_at_millis = match level {
            Level::Normal => return None,
            Level::Warning => &mut self.told_at_millis[0],
            Level::Critical => &mut self.told_at_millis[1],
        };
        let is_cool =
            told_at_millis.is_none_or(|told| now_millis.saturating_sub(told) >= thresholds.cooldown_millis);
        if !(self.is_due && is_cool) {
            return None;
        }
        self.is_due = false;
        *told_at_millis = Some(now_millis);
        Some(level)
    }

    fn next(&self, fraction: f64, thresholds: &Thresholds) -> Level {
        let Thresholds { warning_fraction, critical_fraction, hysteresis_fraction, .. } = *thresholds;
        let leave = |level, threshold| {
            if self.level >= level { threshold - hysteresis_fraction } else { threshold }
        };
        if fraction >= leave(Level::Critical, critical_fraction) {
            Level::Critical
        } else if fraction >= leave(Level::Warning, warning_fraction) {
            Level::Warning
        } else {
            Level::Normal
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Level::{Critical, Normal, Warning};
    use super::*;

    fn check(fractions: &[f64], told: &[Option<Level>]) {
        let (mut levels, thresholds) = (Levels::default(), Thresholds::default());
        // A minute apart: the cool-down is over at each.
        let seen: Vec<Option<Level>> = fractions
            .iter()
            .enumerate()
            .map(|(index, fraction)| levels.step(*fraction, index as u64 * 60_000, &thresholds))
            .collect();
        assert_eq!(seen, told);
    }

    #[test]
    fn a_level_is_told_once_a_crossing() {
        check(&[0.5, 0.75, 0.8, 0.8, 0.9, 0.99], &[None, Some(Warning), None, None, Some(Critical), None]);
        check(&[0.5, 0.95, 0.95], &[None, Some(Critical), None]);
    }

    #[test]
    fn a_level_is_left_five_points_below_where_it_was_reached() {
        check(&[0.76, 0.74, 0.71, 0.76], &[Some(Warning), None, None, None]);
        check(&[0.76, 0.69, 0.76], &[Some(Warning), None, Some(Warning)]);
        check(&[0.91, 0.86, 0.91], &[Some(Critical), None, None]);
        check(&[0.91, 0.84, 0.91], &[Some(Critical), None, Some(Critical)]);
        check(&[0.91, 0.10, 0.76], &[Some(Critical), None, Some(Warning)]);
    }

    #[test]
    fn a_crossing_within_the_cool_down_is_told_at_its_end_if_it_still_holds() {
        let (mut levels, thresholds) = (Levels::default(), Thresholds::default());
        assert_eq!(levels.step(0.8, 0, &thresholds), Some(Warning));
        assert_eq!(levels.step(0.1, 5_000, &thresholds), None);
        assert_eq!(levels.step(0.8, 10_000, &thresholds), None);
        assert_eq!(levels.level(), Warning);
        assert_eq!(levels.step(0.8, 29_999, &thresholds), None);
        assert_eq!(levels.step(0.8, 30_000, &thresholds), Some(Warning));
        assert_eq!(levels.step(0.8, 90_000, &thresholds), None);
        assert_eq!(levels.step(0.1, 95_000, &thresholds), None);
        assert_eq!(levels.level(), Normal);
    }

    proptest! {
        #[test]
        fn alerts_of_a_level_are_a_cool_down_apart(
            fractions in proptest::collection::vec(0.5_f64..1.1, 1..200),
        ) {
            let (mut levels, thresholds) = (Levels::default(), Thresholds::default());
            let mut last = [None::<u64>; 2];
            for (index, fraction) in fractions.iter().enumerate() {
                let now = index as u64 * 5000;
                let Some(level) = levels.step(*fraction, now, &thresholds) else { continue };
                let floor = if level == Critical { 0.85 } else { 0.70 };
                prop_assert!(*fraction >= floor);
                let last = &mut last[usize::from(level == Critical)];
                prop_assert!(last.is_none_or(|last| now - last >= 30_000));
                *last = Some(now);
            }
        }
    }
}
