//! The assessment of a series of readings: the level, and the directives that follow.
//!
//! It remembers what the [`policy`] must know beside one snapshot. It has no thread, reads no clock
//! and does no I/O, so a test can replay a run from plain snapshots.

use crate::system::directive::Directive;
use crate::system::level::{Level, Levels, Thresholds};
use crate::system::policy;
use crate::system::policy::Condition;
use crate::system::snapshot::Snapshot;

/// What the holders of bytes say at a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Holders {
    /// Bytes that holders of data could give back.
    pub reclaimable_bytes: u64,
    /// Whether the learner has a step configuration of fewer bytes with the same results.
    pub can_use_fewer_bytes: bool,
    /// Refused allocations that the learner has answered itself so far.
    pub n_answered: u64,
}

/// What is remembered from one reading to the next.
#[derive(Debug)]
pub struct Assessment {
    thresholds: Thresholds,
    levels: Levels,
    /// Refusals at the latest reading that the learner had not answered. `None` before the first one: earlier refusals
    /// lower no step configuration.
    n_unanswered: Option<u64>,
    relieved_at_millis: Option<u64>,
    trimmed_at_millis: Option<u64>,
    lowered_at_millis: Option<u64>,
    /// The lowest residual since the latest trim.
    untrimmable_bytes: Option<u64>,
}

impl Assessment {
    /// An assessment without a reading yet.
    #[must_use]
    pub fn new(thresholds: Thresholds) -> Self {
        Self {
            thresholds,
            levels: Levels::default(),
            n_unanswered: None,
            relieved_at_millis: None,
            trimmed_at_millis: None,
            lowered_at_millis: None,
            untrimmable_bytes: None,
        }
    }

    /// The level of the latest reading.
    #[must_use]
    pub fn level(&self) -> Level {
        self.levels.level()
    }

    /// Assesses the next reading. Writes the directives that follow into `directives` (cleared first) and assumes that they
    /// are carried out. Returns the level if it is to be announced now.
    pub fn observe(
        &mut self,
        snapshot: &Snapshot,
        holders: Holders,
        directives: &mut Vec<Directive>,
    ) -> Option<Level> {
        let now_millis = snapshot.at_millis;
        let since = |at_millis: Option<u64>| at_millis.map(|at| now_millis.saturating_sub(at));
        let level_before = self.levels.level();
        let announced = self.levels.step(snapshot.held_fraction(), now_millis, &self.thresholds);
        let level = self.levels.level();
        // The two counts are read apart, so the learner's may be ahead for one reading.
        let n_unanswered = snapshot.n_denied.saturating_sub(holders.n_answered);
        let n_newly_denied = n_unanswered.saturating_sub(self.n_unanswered.unwrap_or(n_unanswered));
        self.n_unanswered = Some(n_unanswered.max(self.n_unanswered.unwrap_or(0)));
        let residual_bytes = u64::try_from(snapshot.residual_bytes).unwrap_or(0);
        if self.trimmed_at_millis.is_some() {
            let lowest_bytes = self.untrimmable_bytes.unwrap_or(u64::MAX).min(residual_bytes);
            self.untrimmable_bytes = Some(lowest_bytes);
        }
        let condition = Condition {
            level,
            has_risen: level > level_before,
            since_relief_millis: since(self.relieved_at_millis),
            since_trim_millis: since(self.trimmed_at_millis),
            untrimmable_bytes: self.untrimmable_bytes.unwrap_or(0),
            since_lower_millis: since(self.lowered_at_millis),
            n_newly_denied,
            reclaimable_bytes: holders.reclaimable_bytes,
            can_use_fewer_bytes: holders.can_use_fewer_bytes,
        };
        policy::decide(snapshot, &condition, &self.thresholds, directives);
        for directive in &*directives {
            match directive {
                Directive::Collect { .. } | Directive::Shrink { .. } => {
                    self.relieved_at_millis = Some(now_millis);
                }
                Directive::TrimHeap { .. } => {
                    self.trimmed_at_millis = Some(now_millis);
                    self.untrimmable_bytes = None;
                }
                Directive::LowerStepConfig { .. } => self.lowered_at_millis = Some(now_millis),
            }
        }
        announced
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

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
        };
        directives.iter().map(word).collect()
    }

    #[test]
    fn a_run_through_a_tight_place_is_relieved_at_once_and_a_cool_down_apart() {
        let mut assessment = Assessment::new(Thresholds::default());
        let mut directives = Vec::new();
        let mut seen = Vec::new();
        for (at_seconds, held_mib, n_denied, n_answered) in [
            (0, 500, 0, 0),
            (5, 950, 0, 0),
            (10, 950, 0, 0),
            (35, 950, 0, 0),
            (40, 600, 0, 0),
            (45, 600, 2, 0),
            (50, 600, 5, 3),
            (55, 600, 6, 3),
            (60, 600, 6, 3),
        ] {
            let holders = Holders { reclaimable_bytes: 70 * MIB, can_use_fewer_bytes: true, n_answered };
            let snapshot = snapshot(at_seconds, held_mib * MIB, n_denied);
            let announced = assessment.observe(&snapshot, holders, &mut directives);
            seen.push((at_seconds, announced, words(&directives)));
        }
        assert_eq!(
            seen,
            [
                (0, None, vec![]),
                (5, Some(Level::Critical), vec!["shrink"]),
                (10, None, vec![]),
                (35, None, vec!["shrink"]),
                (40, None, vec![]),
                (45, None, vec!["lower"]),
                (50, None, vec![]),
                (55, None, vec!["lower"]),
                (60, None, vec![]),
            ]
        );
    }

    #[test]
    fn ten_hours_at_a_critical_level_order_nothing_that_is_in_vain() {
        let mut assessment = Assessment::new(Thresholds::default());
        let mut directives = Vec::new();
        let mut seen = Vec::new();
        for at_seconds in (0..36_000).step_by(5) {
            // Full caches that come back after every step, and scratch memory that no trim gives back.
            let full = Snapshot {
                collectable_bytes: 40 * MIB,
                residual_bytes: (60 * MIB).cast_signed(),
                ..snapshot(at_seconds, 1000 * MIB, 0)
            };
            assessment.observe(&full, Holders::default(), &mut directives);
            seen.extend(words(&directives));
        }
        assert_eq!(assessment.level(), Level::Critical);
        assert_eq!(seen, ["trim"]);
    }

    #[test]
    fn ten_hours_at_four_fifths_after_one_refusal_ask_the_learner_for_nothing_more() {
        let mut assessment = Assessment::new(Thresholds::default());
        let mut directives = Vec::new();
        let mut n_lowered = 0;
        for at_seconds in (0..36_000).step_by(5) {
            let n_denied = u64::from(at_seconds >= 100);
            let holders = Holders { can_use_fewer_bytes: true, n_answered: n_denied, ..Holders::default() };
            assessment.observe(&snapshot(at_seconds, 800 * MIB, n_denied), holders, &mut directives);
            n_lowered += directives.len();
        }
        assert_eq!(n_lowered, 0, "the learner has answered its own refusal");
    }
}
