//! Levels: how near the memory limit is, with hysteresis and a cool-down, and the thresholds at which they change.
//!
//! ```text
//!         fraction of the memory limit held       0.70   0.75          0.85   0.90
//! Normal ───────────────────────────────────────> Warning ─────────────> Critical      announced once each
//!        <──────────────────────────────── Warning    <────────── Critical             silent
//! ```
//!
//! The process leaves a level only when the fraction falls by a margin below the level's threshold. The same level is
//! not announced again within a cool-down; a crossing that happens meanwhile is announced when the cool-down ends, if it
//! still holds. This is a plain state machine: the caller passes the time in, and [`alerts`](crate::system::alerts)
//! calls back.

use std::fmt;

/// How near the memory limit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Level {
    /// Below the warning level.
    #[default]
    Normal,
    /// At least [`Thresholds::warning_fraction`] of the memory limit is held.
    Warning,
    /// At least [`Thresholds::critical_fraction`] of the memory limit is held.
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

/// The thresholds of policies and alerts. Fractions are of the memory limit unless stated otherwise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds {
    /// [`Level::Warning`] begins here.
    pub warning_fraction: f64,
    /// [`Level::Critical`] begins here.
    pub critical_fraction: f64,
    /// A level ends when the held fraction is this much below the level's threshold.
    pub hysteresis_fraction: f64,
    /// The shortest time between two alerts of one level, between two reliefs, and between two requests to the learner
    /// because of pressure, in milliseconds.
    pub cooldown_millis: u64,
    /// The pressure from which caches are collected, in percent of the last ten seconds.
    pub pressure_percent: f64,
    /// The pressure from which the learner is asked to use fewer bytes, in percent of the last ten seconds.
    pub critical_pressure_percent: f64,
    /// The residual's budget as a fraction of the resident bytes.
    pub residual_fraction: f64,
    /// The lowest budget of the residual, in bytes.
    pub residual_floor_bytes: u64,
    /// The heap is trimmed again only where the residual has grown by this many bytes beyond what the last trim left.
    pub trim_gain_bytes: u64,
    /// The shortest time between two trims of the heap, in milliseconds.
    pub trim_interval_millis: u64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            warning_fraction: 0.75,
            critical_fraction: 0.90,
            hysteresis_fraction: 0.05,
            cooldown_millis: 30_000,
            pressure_percent: 10.0,
            critical_pressure_percent: 40.0,
            residual_fraction: 0.05,
            residual_floor_bytes: 32 << 20,
            trim_gain_bytes: 4 << 20,
            trim_interval_millis: 60_000,
        }
    }
}

impl Thresholds {
    /// Bytes that may be resident and not counted before the heap is trimmed.
    #[must_use]
    pub fn residual_budget_bytes(&self, resident_bytes: u64) -> u64 {
        ((resident_bytes as f64 * self.residual_fraction) as u64).max(self.residual_floor_bytes)
    }
}

/// The level over time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Levels {
    level: Level,
    /// Whether a crossing was not announced yet.
    is_due: bool,
    /// When the warning and the critical level were last announced.
    announced_at_millis: [Option<u64>; 2],
}

impl Levels {
    /// The level after the latest [`step`](Self::step).
    #[must_use]
    pub fn level(&self) -> Level {
        self.level
    }

    /// Updates the level with the fraction of the memory limit that is held at `now_millis`. Returns the level if it is to
    /// be announced now.
    pub fn step(&mut self, fraction: f64, now_millis: u64, thresholds: &Thresholds) -> Option<Level> {
        let level = self.next(fraction, thresholds);
        if level != self.level {
            self.is_due = level > self.level;
            self.level = level;
        }
        let announced_at_millis = match level {
            Level::Normal => return None,
            Level::Warning => &mut self.announced_at_millis[0],
            Level::Critical => &mut self.announced_at_millis[1],
        };
        let is_cool =
            announced_at_millis.is_none_or(|at| now_millis.saturating_sub(at) >= thresholds.cooldown_millis);
        if !(self.is_due && is_cool) {
            return None;
        }
        self.is_due = false;
        *announced_at_millis = Some(now_millis);
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

    fn check(fractions: &[f64], announced: &[Option<Level>]) {
        let (mut levels, thresholds) = (Levels::default(), Thresholds::default());
        // A minute apart: the cool-down is over at each.
        let seen: Vec<Option<Level>> = fractions
            .iter()
            .enumerate()
            .map(|(index, fraction)| levels.step(*fraction, index as u64 * 60_000, &thresholds))
            .collect();
        assert_eq!(seen, announced);
    }

    #[test]
    fn a_level_is_announced_once_per_crossing() {
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
    fn a_crossing_within_the_cool_down_is_announced_at_its_end_if_it_still_holds() {
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
