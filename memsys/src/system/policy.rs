//! Policies: what to do about memory, as pure functions of a snapshot.
//!
//! They read no clock, touch no device and hold no state: equal snapshots give equal directives. What a policy needs
//! beside the snapshot (the level with its hysteresis, what the last measures left, what holders of data could give back)
//! is a [`Condition`]. Policies do not carry anything out.
//!
//! | condition | directive |
//! |---|---|
//! | the critical level is reached, and again after every cool-down while it lasts | shrink holders of data |
//! | the residual exceeds its budget or the level is critical, and it has grown since the last trim, at most once a minute | trim the heap |
//! | tasks wait for memory and caches hold some, and again after every cool-down | collect caches |
//! | allocations were refused outside of learner steps since the last reading | ask the learner for fewer bytes |
//! | tasks wait for memory most of the time, or more is resident than the memory limit, and again after every cool-down | ask the learner for fewer bytes |
//!
//! A level orders no collection. It is measured on what no collection can change ([`Snapshot::held_bytes`]), and the
//! budget takes what caches hold as soon as an allocation needs it. A level does not lower the step configuration either:
//! a run that is planned to fill its memory limit stays near it, and its step configuration is measured to fit. The learner
//! raises its step configuration itself.

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
    /// The lowest residual since the last trim of the heap, in bytes; 0 if there was none.
    pub untrimmable_bytes: u64,
    /// Milliseconds since the learner was last asked for fewer bytes; `None` if it was not.
    pub since_lower_millis: Option<u64>,
    /// Allocations refused since the last reading that the learner has not answered itself.
    pub n_newly_denied: u64,
    /// Bytes that holders of data could give back.
    pub reclaimable_bytes: u64,
    /// Whether the learner has a step configuration of fewer bytes with the same results.
    pub can_use_fewer_bytes: bool,
}

/// Writes what the policies want done into `out` (cleared first), the mildest directive first.
pub fn decide(snapshot: &Snapshot, condition: &Condition, thresholds: &Thresholds, out: &mut Vec<Directive>) {
    out.clear();
    out.extend(trim(snapshot, condition, thresholds));
    out.extend(collect(snapshot, condition, thresholds));
    out.extend(shrink(snapshot, condition, thresholds));
    out.extend(lower_step_config(snapshot, condition, thresholds));
}

fn trim(snapshot: &Snapshot, condition: &Condition, thresholds: &Thresholds) -> Option<Directive> {
    let residual_bytes = u64::try_from(snapshot.residual_bytes).unwrap_or(0);
    let budget_bytes = thresholds.residual_budget_bytes(snapshot.resident_bytes);
    let is_wanted = residual_bytes > budget_bytes || condition.level == Level::Critical;
    let is_due = condition.since_trim_millis.is_none_or(|since| since >= thresholds.trim_interval_millis);
    // What a trim has left once, the next one leaves too.
    let has_grown = residual_bytes >= condition.untrimmable_bytes + thresholds.trim_gain_bytes;
    let reason = Reason::Residual { residual_bytes, budget_bytes };
    (is_wanted && is_due && has_grown).then_some(Directive::TrimHeap { reason })
}

fn collect(snapshot: &Snapshot, condition: &Condition, thresholds: &Thresholds) -> Option<Directive> {
    // Other processes need memory: give them everything that is only cached.
    let percent = pressure(snapshot, thresholds.pressure_percent)?;
    let is_due = has_cooled_down(condition.since_relief_millis, thresholds);
    let (bytes, reason) = (snapshot.collectable_bytes, Reason::Pressure { percent });
    (is_due && bytes > 0).then_some(Directive::Collect { generation: Generation::Caches, bytes, reason })
}

fn shrink(snapshot: &Snapshot, condition: &Condition, thresholds: &Thresholds) -> Option<Directive> {
    let is_due = condition.has_risen || has_cooled_down(condition.since_relief_millis, thresholds);
    let bytes = excess_bytes(snapshot, thresholds).min(condition.reclaimable_bytes);
    (condition.level == Level::Critical && is_due && bytes > 0)
        .then_some(Directive::Shrink { bytes, reason: held(snapshot) })
}

fn lower_step_config(
    snapshot: &Snapshot,
    condition: &Condition,
    thresholds: &Thresholds,
) -> Option<Directive> {
    if !condition.can_use_fewer_bytes {
        return None;
    }
    if condition.n_newly_denied > 0 {
        let reason = Reason::Denied { n_denied: condition.n_newly_denied };
        return Some(Directive::LowerStepConfig { reason });
    }
    let Snapshot { resident_bytes, limit_bytes, .. } = *snapshot;
    let passes_limit = snapshot.has_limit() && resident_bytes > limit_bytes;
    let reason = if passes_limit {
        Reason::Held { held_bytes: resident_bytes, limit_bytes }
    } else {
        Reason::Pressure { percent: pressure(snapshot, thresholds.critical_pressure_percent)? }
    };
    has_cooled_down(condition.since_lower_millis, thresholds).then_some(Directive::LowerStepConfig { reason })
}

/// The pressure in percent, if it is at least `threshold_percent`.
fn pressure(snapshot: &Snapshot, threshold_percent: f64) -> Option<f64> {
    snapshot.pressure_percent.filter(|percent| *percent >= threshold_percent)
}

fn has_cooled_down(since_millis: Option<u64>, thresholds: &Thresholds) -> bool {
    since_millis.is_none_or(|since| since >= thresholds.cooldown_millis)
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
            untrimmable_bytes: 0,
            since_lower_millis: None,
            n_newly_denied: 0,
            reclaimable_bytes: 0,
            can_use_fewer_bytes: true,
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
    fn the_critical_level_shrinks_holders_and_repeats_it_after_the_cool_down() {
        let snapshot = snapshot(950 * MIB);
        let reason = Reason::Held { held_bytes: 950 * MIB, limit_bytes: 1000 * MIB };
        let shrink = [Directive::Shrink { bytes: 70 * MIB, reason }];
        let critical = Condition { reclaimable_bytes: 70 * MIB, ..condition(Level::Critical) };
        check(&snapshot, &Condition { has_risen: true, ..critical }, &shrink);
        check(&snapshot, &Condition { since_relief_millis: Some(29_999), ..critical }, &[]);
        check(&snapshot, &Condition { since_relief_millis: Some(30_000), ..critical }, &shrink);
    }

    #[test]
    fn a_level_that_no_collection_can_change_orders_none() {
        let full =
            Snapshot { counted_bytes: 1000 * MIB, collectable_bytes: 50 * MIB, ..snapshot(1000 * MIB) };
        for level in [Level::Warning, Level::Critical] {
            let since_relief_millis = Some(1 << 40);
            check(&full, &Condition { has_risen: true, since_relief_millis, ..condition(level) }, &[]);
        }
    }

    #[test]
    fn pressure_from_outside_takes_the_caches_and_nothing_where_there_are_none() {
        let snapshot = Snapshot {
            pressure_percent: Some(12.5),
            collectable_bytes: 64 * MIB,
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
        check(&Snapshot { pressure_percent: Some(9.9), ..snapshot.clone() }, &waited, &[]);
        check(&Snapshot { collectable_bytes: 0, ..snapshot }, &waited, &[]);
    }

    #[test]
    fn a_residual_over_its_budget_trims_the_heap_a_minute_apart_while_it_grows() {
        // 5 % of 500 MiB are less than the floor of 32 MiB.
        let residual = |mib: i64| Snapshot { residual_bytes: mib << 20, ..snapshot(500 * MIB) };
        let trim = |mib: u64| {
            let reason = Reason::Residual { residual_bytes: mib * MIB, budget_bytes: 32 * MIB };
            [Directive::TrimHeap { reason }]
        };
        check(&residual(32), &condition(Level::Normal), &[]);
        check(&residual(33), &condition(Level::Normal), &trim(33));
        check(&residual(20), &condition(Level::Critical), &trim(20));
        check(&residual(-1 << 20), &condition(Level::Critical), &[]);
        let trimmed = Condition { since_trim_millis: Some(59_999), ..condition(Level::Normal) };
        check(&residual(33), &trimmed, &[]);
        // A trim left 40 MiB: it is not tried in vain for ever.
        let left = Condition { untrimmable_bytes: 40 * MIB, ..condition(Level::Critical) };
        check(&residual(43), &left, &[]);
        check(&residual(44), &left, &trim(44));
        assert_eq!(Thresholds::default().residual_budget_bytes(1000 * MIB), 50 * MIB);
    }

    #[test]
    fn refusals_outside_of_learner_steps_ask_the_learner_for_fewer_bytes() {
        let denied = Condition { n_newly_denied: 3, ..condition(Level::Normal) };
        let lower = Directive::LowerStepConfig { reason: Reason::Denied { n_denied: 3 } };
        check(&snapshot(500 * MIB), &denied, &[lower]);
        check(&snapshot(500 * MIB), &Condition { can_use_fewer_bytes: false, ..denied }, &[]);
    }

    #[test]
    fn critical_pressure_and_a_passed_limit_ask_the_learner_a_cool_down_apart() {
        let pressed = Snapshot { pressure_percent: Some(40.0), ..snapshot(500 * MIB) };
        let lower = Directive::LowerStepConfig { reason: Reason::Pressure { percent: 40.0 } };
        let passed = snapshot(1001 * MIB);
        let reason = Reason::Held { held_bytes: 1001 * MIB, limit_bytes: 1000 * MIB };
        let lower_passed = Directive::LowerStepConfig { reason };
        for (snapshot, level, lower) in
            [(&pressed, Level::Normal, lower), (&passed, Level::Critical, lower_passed)]
        {
            let at = |millis| Condition { since_lower_millis: millis, ..condition(level) };
            check(snapshot, &at(None), &[lower]);
            check(snapshot, &at(Some(29_999)), &[]);
            check(snapshot, &at(Some(30_000)), &[lower]);
        }
        check(&Snapshot { pressure_percent: Some(39.0), ..pressed }, &condition(Level::Normal), &[]);
        check(&snapshot(999 * MIB), &condition(Level::Critical), &[]);
    }
}
