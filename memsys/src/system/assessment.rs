//! The assessment of a series of readings: the level, the trend, and the directives that follow.
//!
//! It remembers what the [`policy`] must know beside one snapshot. It has no thread, reads no clock
//! and does no I/O, so a test can replay a run from plain snapshots.

use crate::step::ceiling::StepConfigRange;
use crate::system::directive::Directive;
use crate::system::level::{Level, Levels, Thresholds};
use crate::system::policy;
use crate::system::policy::Condition;
use crate::system::snapshot::Snapshot;
use crate::system::trend::Readings;

/// What is remembered from one reading to the next.
#[derive(Debug)]
pub struct Assessment {
    thresholds: Thresholds,
    levels: Levels,
    readings: Readings,
    /// Refusals at the latest reading. `None` before the first one: earlier refusals lower no step configuration.
    n_denied: Option<u64>,
    calm_since_millis: u64,
    relieved_at_millis: Option<u64>,
    trimmed_at_millis: Option<u64>,
}

impl Assessment {
    /// An assessment without a reading yet, whose trend covers the latest `n_readings`.
    #[must_use]
    pub fn new(thresholds: Thresholds, n_readings: usize) -> Self {
        Self {
            thresholds,
            levels: Levels::default(),
            readings: Readings::new(n_readings),
            n_denied: None,
            calm_since_millis: 0,
            relieved_at_millis: None,
            trimmed_at_millis: None,
        }
    }

    /// The latest readings.
    #[must_use]
    pub fn readings(&self) -> &Readings {
        &self.readings
    }

    /// The level of the latest reading.
    #[must_use]
    pub fn level(&self) -> Level {
        self.levels.level()
    }

    /// Assesses the next reading. `reclaimable_bytes` is what holders could give back, and `step_configs` those of the
    /// learner. Writes the directives that follow into `directives` (cleared first) and assumes that they are carried
    /// out. Returns the level if it is to be announced now.
    pub fn observe(
        &mut self,
        snapshot: &Snapshot,
        reclaimable_bytes: u64,
        step_configs: Option<StepConfigRange>,
        directives: &mut Vec<Directive>,
    ) -> Option<Level> {
        let now_millis = snapshot.at_millis;
        let since = |at_millis: Option<u64>| at_millis.map(|at| now_millis.saturating_sub(at));
        self.readings.push(snapshot);
        let level_before = self.levels.level();
        let announced = self.levels.step(snapshot.held_fraction(), now_millis, &self.thresholds);
        let level = self.levels.level();
        let n_newly_denied = snapshot.n_denied.saturating_sub(self.n_denied.unwrap_or(snapshot.n_denied));
        self.n_denied = Some(snapshot.n_denied);
        if n_newly_denied > 0 || level > Level::Normal {
            self.calm_since_millis = now_millis;
        }
        let condition = Condition {
            level,
            has_risen: level > level_before,
            since_relief_millis: since(self.relieved_at_millis),
            since_trim_millis: since(self.trimmed_at_millis),
            calm_millis: now_millis.saturating_sub(self.calm_since_millis),
            n_newly_denied,
            reclaimable_bytes,
            step_configs,
        };
        policy::decide(snapshot, &condition, &self.thresholds, directives);
        for directive in &*directives {
            match directive {
                Directive::Collect { .. } | Directive::Shrink { .. } => {
                    self.relieved_at_millis = Some(now_millis);
                }
                Directive::TrimHeap { .. } => self.trimmed_at_millis = Some(now_millis),
                Directive::LowerStepConfig { .. } | Directive::RaiseStepConfig { .. } => {
                    self.calm_since_millis = now_millis;
                }
            }
        }
        announced
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const STEP_CONFIGS: Option<StepConfigRange> =
        Some(StepConfigRange { highest: 3, ceiling: 1, raise_bytes: 10 * MIB });

    fn snapshot(at_seconds: u64, held_bytes: u64, n_denied: u64) -> Snapshot {
        Snapshot {
            at_millis: at_seconds * 1000,
            limit_bytes: 1000 * MIB,
            resident_bytes: held_bytes,
            counted_bytes: held_bytes,
            n_denied,
            ..Snapshot::default()
        }
    }

    fn words(directives: &[Directive]) -> Vec<&'static str> {
        let word = |directive: &Directive| match directive {
            Directive::Collect { .. } => "collect",
            Directive::TrimHeap { .. } => "trim",
            Directive::Shrink { .. } => "shrink",
            Directive::LowerStepConfig { .. } => "lower",
            Directive::RaiseStepConfig { .. } => "raise",
        };
        directives.iter().map(word).collect()
    }

    #[test]
    fn a_run_through_a_tight_place_is_relieved_at_once_and_recovers_slowly() {
        let mut assessment = Assessment::new(Thresholds::default(), 10);
        let mut directives = Vec::new();
        let mut seen = Vec::new();
        for (at_seconds, held_mib, n_denied) in [
            (0, 500, 0),
            (5, 950, 0),
            (10, 950, 0),
            (35, 950, 0),
            (40, 600, 0),
            (45, 600, 2),
            (100, 600, 2),
            (105, 600, 2),
        ] {
            let snapshot = snapshot(at_seconds, held_mib * MIB, n_denied);
            let announced = assessment.observe(&snapshot, 70 * MIB, STEP_CONFIGS, &mut directives);
            seen.push((at_seconds, announced, words(&directives)));
        }
        let all = vec!["collect", "shrink"];
        assert_eq!(
            seen,
            [
                (0, None, vec![]),
                (5, Some(Level::Critical), all.clone()),
                (10, None, vec![]),
                (35, None, all),
                (40, None, vec![]),
                (45, None, vec!["lower"]),
                (100, None, vec![]),
                (105, None, vec!["raise"]),
            ]
        );
        assert_eq!(assessment.readings().iter().count(), 8);
    }

    #[test]
    fn what_was_raised_waits_for_another_calm() {
        let mut assessment = Assessment::new(Thresholds::default(), 10);
        let mut directives = Vec::new();
        let mut raised_at = Vec::new();
        for at_seconds in (0..200).step_by(5) {
            assessment.observe(&snapshot(at_seconds, 500 * MIB, 0), 0, STEP_CONFIGS, &mut directives);
            if words(&directives) == ["raise"] {
                raised_at.push(at_seconds);
            }
        }
        assert_eq!(raised_at, [60, 120, 180]);
    }
}
