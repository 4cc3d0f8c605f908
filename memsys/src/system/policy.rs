//! Policies: what to do about memory, as pure functions of a snapshot.
//!
//! They read no clock, touch no device and hold no state: equal snapshots give equal directives. What a policy needs
//! beside the snapshot (the level with its hysteresis, how long it has been calm, what holders of data could give back)
//! is a [`Condition`]. Policies do not carry anything out.
//!
//! | condition | directive |
//! |---|---|
//! | the process reaches the warning level | collect caches, down to the warning level |
//! | the process reaches the critical level, and again after every cool-down while it stays there | collect caches and the free pages of the heap, shrink holders of data |
//! | tasks wait for memory, and again after every cool-down while they do | collect caches |
//! | the residual exceeds its budget, at most once a minute | trim the heap |
//! | allocations were refused since the last reading | lower the step configuration |
//! | it has been calm for a minute and the next step configuration fits below the warning level | raise the step configuration |
//!
//! A level alone does not lower the step configuration: a run that is planned to fill its memory limit stays near it, and
//! its step configuration is measured to fit.

use crate::step::ceiling::StepConfigRange;
use crate::system::collector::Generation;
use crate::system::directive::{Directive, Reason};
use crate::system::level::{Level, Thresholds};
use crate::system::snapshot::Snapshot;

/// What the policies need to know beside the snapshot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Condition {
    /// The level with its hysteresis.
    pub level: Level,
    /// Whether the level rose at this reading.
    pub has_risen: bool,
    /// Milliseconds since the last relief (a collection or a shrinking); `None` if there was none.
    pub since_relief_millis: Option<u64>,
    /// Milliseconds since the last trim of the heap; `None` if there was none.
    pub since_trim_millis: Option<u64>,
    /// Milliseconds since the latest of these: a refusal, a reading above [`Level::Normal`], a change of the step
    /// configuration.
    pub calm_millis: u64,
    /// Allocations refused since the last reading.
    pub n_newly_denied: u64,
    /// Bytes that holders of data could give back.
    pub reclaimable_bytes: u64,
    /// The learner's step configurations, if a learner has declared any.
    pub step_configs: Option<StepConfigRange>,
}

/// Writes what the policies want done into `out` (cleared first), the mildest directive first.
pub fn decide(snapshot: &Snapshot, condition: &Condition, thresholds: &Thresholds, out: &mut Vec<Directive>) {
    out.clear();
    out.extend(trim(snapshot, condition, thresholds));
    out.extend(collect(snapshot, condition, thresholds));
    out.extend(shrink(snapshot, condition, thresholds));
    out.extend(change_step_config(snapshot, condition, thresholds));
}

fn trim(snapshot: &Snapshot, condition: &Condition, thresholds: &Thresholds) -> Option<Directive> {
    let residual_bytes = u64::try_from(snapshot.residual_bytes).unwrap_or(0);
    let budget_bytes = thresholds.residual_budget_bytes(snapshot.resident_bytes);
    let is_due = condition.since_trim_millis.is_none_or(|since| since >= thresholds.trim_interval_millis);
    let reason = Reason::Residual { residual_bytes, budget_bytes };
    (residual_bytes > budget_bytes && is_due).then_some(Directive::TrimHeap { reason })
}

fn collect(snapshot: &Snapshot, condition: &Condition, thresholds: &Thresholds) -> Option<Directive> {
    let is_cooled_down = is_cooled_down(condition, thresholds);
    let (bytes, reason) = (excess_bytes(snapshot, thresholds), held(snapshot));
    match condition.level {
        Level::Critical if condition.has_risen || is_cooled_down => {
            return Some(Directive::Collect { generation: Generation::Cold, bytes, reason });
        }
        Level::Warning if condition.has_risen => {
            return Some(Directive::Collect { generation: Generation::Caches, bytes, reason });
        }
        _ => {}
    }
    let percent = snapshot.pressure_percent.filter(|percent| *percent >= thresholds.pressure_percent)?;
    // Other processes need memory: give all kept blocks, and at least try for a twentieth of what is resident.
    let bytes = snapshot.cached_bytes.max(snapshot.resident_bytes / 20);
    let reason = Reason::Pressure { percent };
    is_cooled_down.then_some(Directive::Collect { generation: Generation::Caches, bytes, reason })
}

fn shrink(snapshot: &Snapshot, condition: &Condition, thresholds: &Thresholds) -> Option<Directive> {
    let bytes = excess_bytes(snapshot, thresholds).min(condition.reclaimable_bytes);
    (must_shrink(condition, thresholds) && bytes > 0)
        .then_some(Directive::Shrink { bytes, reason: held(snapshot) })
}

fn change_step_config(
    snapshot: &Snapshot,
    condition: &Condition,
    thresholds: &Thresholds,
) -> Option<Directive> {
    let StepConfigRange { highest, ceiling, raise_bytes } = condition.step_configs?;
    if condition.n_newly_denied > 0 {
        let reason = Reason::Denied { n_denied: condition.n_newly_denied };
        return (ceiling > 0).then_some(Directive::LowerStepConfig { reason });
    }
    let warning_bytes = limit_bytes(snapshot, thresholds.warning_fraction);
    let room_bytes = warning_bytes.saturating_sub(snapshot.held_bytes());
    let is_calm = condition.level == Level::Normal && condition.calm_millis >= thresholds.calm_millis;
    let reason = Reason::Calm { calm_millis: condition.calm_millis, room_bytes, wanted_bytes: raise_bytes };
    (is_calm && ceiling < highest && raise_bytes <= room_bytes)
        .then_some(Directive::RaiseStepConfig { reason })
}

/// Whether the memory limit is so near that holders must give up data now.
fn must_shrink(condition: &Condition, thresholds: &Thresholds) -> bool {
    condition.level == Level::Critical && (condition.has_risen || is_cooled_down(condition, thresholds))
}

fn is_cooled_down(condition: &Condition, thresholds: &Thresholds) -> bool {
    condition.since_relief_millis.is_none_or(|since| since >= thresholds.cooldown_millis)
}

fn held(snapshot: &Snapshot) -> Reason {
    Reason::Held { held_bytes: snapshot.held_bytes(), limit_bytes: snapshot.limit_bytes }
}

/// Held bytes above the warning threshold.
fn excess_bytes(snapshot: &Snapshot, thresholds: &Thresholds) -> u64 {
    snapshot.held_bytes().saturating_sub(limit_bytes(snapshot, thresholds.warning_fraction))
}

fn limit_bytes(snapshot: &Snapshot, fraction: f64) -> u64 {
    if snapshot.has_limit() { (snapshot.limit_bytes as f64 * fraction) as u64 } else { u64::MAX }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn snapshot(held_bytes: u64) -> Snapshot {
        Snapshot {
            limit_bytes: 1000 * MIB,
            resident_bytes: held_bytes,
            counted_bytes: held_bytes,
            ..Snapshot::default()
        }
    }

    fn condition(level: Level) -> Condition {
        Condition {
            level,
            has_risen: false,
            since_relief_millis: Some(0),
            since_trim_millis: None,
            calm_millis: 0,
            n_newly_denied: 0,
            reclaimable_bytes: 0,
            step_configs: Some(StepConfigRange { highest: 4, ceiling: 2, raise_bytes: 100 * MIB }),
        }
    }

    fn check(snapshot: &Snapshot, condition: &Condition, wanted: &[Directive]) {
        let mut directives = Vec::new();
        decide(snapshot, condition, &Thresholds::default(), &mut directives);
        assert_eq!(directives, wanted);
    }

    #[test]
    fn far_from_the_limit_nothing_is_done() {
        check(&snapshot(500 * MIB), &condition(Level::Normal), &[]);
    }

    #[test]
    fn the_warning_level_collects_caches_once() {
        let snapshot = snapshot(800 * MIB);
        let risen = Condition { has_risen: true, ..condition(Level::Warning) };
        let reason = Reason::Held { held_bytes: 800 * MIB, limit_bytes: 1000 * MIB };
        let collect = Directive::Collect { generation: Generation::Caches, bytes: 50 * MIB, reason };
        check(&snapshot, &risen, &[collect]);
        check(&snapshot, &condition(Level::Warning), &[]);
        let later = Condition { since_relief_millis: Some(1 << 40), ..condition(Level::Warning) };
        check(&snapshot, &later, &[]);
    }

    #[test]
    fn the_critical_level_takes_all_measures_and_repeats_them_after_the_cool_down() {
        let snapshot = snapshot(950 * MIB);
        let reason = Reason::Held { held_bytes: 950 * MIB, limit_bytes: 1000 * MIB };
        let measures = [
            Directive::Collect { generation: Generation::Cold, bytes: 200 * MIB, reason },
            Directive::Shrink { bytes: 70 * MIB, reason },
        ];
        let critical = Condition { reclaimable_bytes: 70 * MIB, ..condition(Level::Critical) };
        check(&snapshot, &Condition { has_risen: true, ..critical }, &measures);
        check(&snapshot, &Condition { since_relief_millis: Some(29_999), ..critical }, &[]);
        check(&snapshot, &Condition { since_relief_millis: Some(30_000), ..critical }, &measures);
    }

    #[test]
    fn pressure_from_outside_takes_the_caches() {
        let snapshot = Snapshot {
            pressure_percent: Some(12.5),
            cached_bytes: 64 * MIB,
            counted_bytes: 464 * MIB,
            ..snapshot(464 * MIB)
        };
        let waited = Condition { since_relief_millis: None, ..condition(Level::Normal) };
        let collect = Directive::Collect {
            generation: Generation::Caches,
            bytes: 64 * MIB,
            reason: Reason::Pressure { percent: 12.5 },
        };
        check(&snapshot, &waited, &[collect]);
        check(&snapshot, &condition(Level::Normal), &[]);
        check(&Snapshot { pressure_percent: Some(9.9), ..snapshot }, &waited, &[]);
    }

    #[test]
    fn a_residual_over_its_budget_trims_the_heap_a_minute_apart() {
        // 5 % of 500 MiB are less than the floor of 32 MiB.
        let usual = Snapshot { residual_bytes: 32 << 20, ..snapshot(500 * MIB) };
        let grown = Snapshot { residual_bytes: 33 << 20, ..snapshot(500 * MIB) };
        let reason = Reason::Residual { residual_bytes: 33 * MIB, budget_bytes: 32 * MIB };
        check(&usual, &condition(Level::Normal), &[]);
        check(&grown, &condition(Level::Normal), &[Directive::TrimHeap { reason }]);
        let trimmed = Condition { since_trim_millis: Some(59_999), ..condition(Level::Normal) };
        check(&grown, &trimmed, &[]);
        check(&Snapshot { residual_bytes: -(1 << 40), ..usual }, &condition(Level::Normal), &[]);
        assert_eq!(Thresholds::default().residual_budget_bytes(1000 * MIB), 50 * MIB);
    }

    #[test]
    fn a_refusal_lowers_the_step_config_unless_it_is_the_lowest() {
        let denied = Condition { n_newly_denied: 3, ..condition(Level::Normal) };
        let lower = Directive::LowerStepConfig { reason: Reason::Denied { n_denied: 3 } };
        check(&snapshot(500 * MIB), &denied, &[lower]);
        let lowest = StepConfigRange { highest: 4, ceiling: 0, raise_bytes: 0 };
        check(&snapshot(500 * MIB), &Condition { step_configs: Some(lowest), ..denied }, &[]);
        check(&snapshot(500 * MIB), &Condition { step_configs: None, ..denied }, &[]);
    }

    #[test]
    fn the_step_config_rises_after_a_calm_where_the_next_one_fits_below_the_warning_level() {
        let calm = Condition { calm_millis: 60_000, ..condition(Level::Normal) };
        let reason = Reason::Calm { calm_millis: 60_000, room_bytes: 100 * MIB, wanted_bytes: 100 * MIB };
        check(&snapshot(650 * MIB), &calm, &[Directive::RaiseStepConfig { reason }]);
        check(&snapshot(651 * MIB), &calm, &[]);
        check(&snapshot(650 * MIB), &Condition { calm_millis: 59_999, ..calm }, &[]);
        let highest = StepConfigRange { highest: 4, ceiling: 4, raise_bytes: 0 };
        check(&snapshot(650 * MIB), &Condition { step_configs: Some(highest), ..calm }, &[]);
    }

    #[test]
    fn without_a_limit_the_step_config_may_rise() {
        let free = Snapshot { limit_bytes: u64::MAX, ..snapshot(500 * MIB) };
        let calm = Condition { calm_millis: 60_000, ..condition(Level::Normal) };
        let mut directives = Vec::new();
        decide(&free, &calm, &Thresholds::default(), &mut directives);
        assert!(matches!(directives[..], [Directive::RaiseStepConfig { .. }]), "{directives:?}");
    }
}
