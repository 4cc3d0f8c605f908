//! Recommendations: changes of settings that a snapshot's numbers suggest, in words.
//!
//! These are pure functions of a snapshot and the run's settings. Each recommendation states the number that it rests on
//! and the setting to write. Nothing is recommended that the numbers do not show, and no setting is changed here.
//!
//! Owners are recognized by the beginnings of their paths: [`REPLAY`], [`ACTIVATIONS`], [`ENVIRONMENTS`].

use std::fmt;

use crate::limit::MemoryLimit;
use crate::limit::Readable;
use crate::step::activation_mode::ActivationMode;
use crate::system::snapshot::Snapshot;

/// The beginning of the owners of the replay.
pub const REPLAY: &str = "run/replay";
/// The beginning of the owners of what a learner step keeps for its backward pass.
pub const ACTIVATIONS: &str = "run/learner/activations";
/// The beginning of the owners of environments and their actors.
pub const ENVIRONMENTS: &str = "run/actor";

/// A peak below this fraction of the memory limit suggests a lower limit.
const UNUSED_BELOW_FRACTION: f64 = 0.5;
/// How far a recommended limit lies above the peak or the limit before, as a fraction of it.
const MARGIN_FRACTION: f64 = 0.25;
/// Recommended limits are multiples of this.
const LIMIT_STEP_BYTES: u64 = 64 << 20;
/// Owners above this fraction of the counted bytes are worth a recommendation.
const LARGE_FRACTION: f64 = 0.5;

/// The settings of the run that recommendations refer to. A number of 0 means that it is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RunSettings {
    /// `replay.capacity`, in transitions.
    pub replay_capacity_transitions: u64,
    /// `run.n_environments`.
    pub n_environments: u64,
    /// `agent.micro_batch`.
    pub micro_batch: u64,
    /// `memory.activations`; `None` for `auto`.
    pub activations: Option<ActivationMode>,
}

/// A number with what it measures.
#[derive(Debug, Clone, PartialEq)]
pub struct Number {
    /// What the number measures, with its unit.
    pub what: &'static str,
    /// The value.
    pub value: f64,
}

/// A setting to change, and the reason.
#[derive(Debug, Clone, PartialEq)]
pub struct Recommendation {
    /// The whole recommendation as a sentence.
    pub text: String,
    /// The number that it rests on.
    pub rests_on: Number,
    /// The setting to write, as `key = value`.
    pub setting: String,
}

impl fmt::Display for Recommendation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// All recommendations for these numbers, the most urgent first.
#[must_use]
pub fn recommend(snapshot: &Snapshot, settings: &RunSettings) -> Vec<Recommendation> {
    let rules = [
        keep_less_for_refusals(snapshot, settings),
        higher_limit(snapshot),
        large_replay(snapshot, settings),
        large_activations(snapshot, settings),
        many_environments(snapshot, settings),
        lower_limit(snapshot),
    ];
    rules.into_iter().flatten().collect()
}

fn keep_less_for_refusals(snapshot: &Snapshot, settings: &RunSettings) -> Option<Recommendation> {
    let n_denied = snapshot.n_denied;
    (n_denied > 0 && settings.activations == Some(ActivationMode::Keep)).then(|| {
        let text = format!(
            "{n_denied} allocations were refused while every activation is kept: memory.activations = auto computes \
             them again where the memory limit has no room"
        );
        let rests_on = Number { what: "refused allocations", value: n_denied as f64 };
        Recommendation { text, rests_on, setting: "memory.activations = auto".into() }
    })
}

fn higher_limit(snapshot: &Snapshot) -> Option<Recommendation> {
    let (limit_bytes, n_denied) = (snapshot.limit_bytes, snapshot.n_denied);
    if n_denied == 0 || !snapshot.has_limit() {
        return None;
    }
    let higher_bytes = with_margin(limit_bytes)?;
    let group_left = snapshot.group.map(|group| group.limit_bytes.saturating_sub(group.used_bytes));
    let left_bytes = snapshot.available_bytes?.min(group_left.unwrap_or(u64::MAX));
    (snapshot.resident_bytes.saturating_add(left_bytes) >= higher_bytes).then(|| {
        let setting = limit_setting(higher_bytes);
        let (limit, left) = (Readable(limit_bytes), Readable(left_bytes));
        let text = format!(
            "{n_denied} allocations were refused at the memory limit of {limit}, and {left} are unused around the process: \
             {setting} is a quarter more"
        );
        Recommendation {
            text,
            rests_on: Number { what: "refused allocations", value: n_denied as f64 },
            setting,
        }
    })
}

fn lower_limit(snapshot: &Snapshot) -> Option<Recommendation> {
    let fraction = snapshot.peak_loaded_bytes as f64 / snapshot.limit_bytes as f64;
    let is_unused = snapshot.has_limit() && snapshot.n_denied == 0 && fraction < UNUSED_BELOW_FRACTION;
    let enough_bytes = with_margin(snapshot.peak_loaded_bytes)?;
    (is_unused && snapshot.peak_loaded_bytes > 0 && enough_bytes < snapshot.limit_bytes).then(|| {
        let percent = 100.0 * fraction;
        let setting = limit_setting(enough_bytes);
        Recommendation {
            text: format!("the peak is {percent:.0} % of the memory limit: {setting} would do"),
            rests_on: Number { what: "peak, percent of the memory limit", value: percent },
            setting,
        }
    })
}

fn large_replay(snapshot: &Snapshot, settings: &RunSettings) -> Option<Recommendation> {
    let large = Large::of(snapshot, REPLAY, false)?;
    let capacity = settings.replay_capacity_transitions / 2;
    (capacity > 0).then(|| large.halved("the replay holds", format!("replay.capacity = {capacity}")))
}

fn large_activations(snapshot: &Snapshot, settings: &RunSettings) -> Option<Recommendation> {
    let large = Large::of(snapshot, ACTIVATIONS, true)?;
    let kept = "the activations of a learner step take up to";
    match settings.micro_batch {
        2.. => Some(large.halved(kept, format!("agent.micro_batch = {}", settings.micro_batch / 2))),
        1 if settings.activations == Some(ActivationMode::Keep) => {
            let Large { bytes, percent } = large;
            let text = format!(
                "{kept} {percent:.0} % of the counted bytes at the smallest micro-batch: memory.activations = recompute \
                 would compute the {} again instead of keeping them",
                Readable(bytes)
            );
            let setting = "memory.activations = recompute".into();
            Some(Recommendation { text, rests_on: large.number(), setting })
        }
        _ => None,
    }
}

fn many_environments(snapshot: &Snapshot, settings: &RunSettings) -> Option<Recommendation> {
    let large = Large::of(snapshot, ENVIRONMENTS, false)?;
    let fewer = settings.n_environments / 2;
    (fewer > 0).then(|| large.halved("the environments hold", format!("run.n_environments = {fewer}")))
}

/// A group of owners that holds most of the counted bytes.
#[derive(Debug, Clone, Copy)]
struct Large {
    bytes: u64,
    percent: f64,
}

impl Large {
    /// The owners whose paths begin with `beginning`; `None` if they hold too little. `at_peak` takes the most that
    /// they ever held, for bytes that come and go within a step.
    fn of(snapshot: &Snapshot, beginning: &str, at_peak: bool) -> Option<Self> {
        let is_below = |path: &str| {
            path.strip_prefix(beginning).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let owners = snapshot.owners.iter().filter(|owner| is_below(owner.path));
        let (bytes, now_bytes) = owners.fold((0, 0), |(bytes, now_bytes), owner| {
            (bytes + if at_peak { owner.peak_bytes } else { owner.bytes }, now_bytes + owner.bytes)
        });
        // At the owners' peak the counted bytes were higher by what these owners have given back since.
        let counted_bytes = snapshot.counted_bytes + (bytes - now_bytes);
        let fraction = bytes as f64 / counted_bytes.max(1) as f64;
        (fraction > LARGE_FRACTION).then_some(Self { bytes, percent: 100.0 * fraction.min(1.0) })
    }

    fn number(self) -> Number {
        Number { what: "percent of the counted bytes", value: self.percent }
    }

    /// Recommends a `setting` that halves a count, and with it these bytes.
    fn halved(self, who: &str, setting: String) -> Recommendation {
        let freed = Readable(self.bytes / 2);
        let text = format!("{who} {:.0} % of the counted bytes: {setting} would free {freed}", self.percent);
        Recommendation { text, rests_on: self.number(), setting }
    }
}

fn with_margin(bytes: u64) -> Option<u64> {
    bytes.checked_add((bytes as f64 * MARGIN_FRACTION) as u64)?.checked_next_multiple_of(LIMIT_STEP_BYTES)
}

fn limit_setting(bytes: u64) -> String {
    format!("memory.limit = {}", MemoryLimit::Bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::OwnerBytes;

    const MIB: u64 = 1 << 20;

    fn snapshot() -> Snapshot {
        Snapshot {
            limit_bytes: 2048 * MIB,
            resident_bytes: 1500 * MIB,
            counted_bytes: 1400 * MIB,
            peak_loaded_bytes: 1600 * MIB,
            available_bytes: Some(8192 * MIB),
            ..Snapshot::default()
        }
    }

    fn settings() -> RunSettings {
        RunSettings {
            replay_capacity_transitions: 100_000,
            n_environments: 8,
            micro_batch: 32,
            activations: None,
        }
    }

    fn owner(path: &'static str, bytes: u64, peak_bytes: u64) -> OwnerBytes {
        OwnerBytes { path, bytes, tensor_bytes: 0, peak_bytes }
    }

    fn check(snapshot: &Snapshot, settings: &RunSettings, wanted: &[(&str, &str)]) {
        let recommendations = recommend(snapshot, settings);
        let seen: Vec<(&str, &str)> =
            recommendations.iter().map(|one| (one.text.as_str(), one.setting.as_str())).collect();
        assert_eq!(seen, wanted);
        for Recommendation { text, rests_on, setting } in &recommendations {
            assert!(text.contains(setting.as_str()), "{text}");
            assert!(text.contains(&format!("{:.0}", rests_on.value)), "{text}");
            if let Some(limit) = setting.strip_prefix("memory.limit = ") {
                assert!(MemoryLimit::parse(limit).is_ok(), "{setting}");
            }
        }
    }

    #[test]
    fn a_run_that_uses_its_limit_is_left_alone() {
        check(&snapshot(), &settings(), &[]);
        check(&Snapshot { limit_bytes: u64::MAX, ..snapshot() }, &settings(), &[]);
        check(&Snapshot::default(), &RunSettings::default(), &[]);
    }

    #[test]
    fn a_limit_far_from_reached_could_be_lower() {
        let text = "the peak is 21 % of the memory limit: memory.limit = 576MiB would do";
        let quiet = Snapshot { peak_loaded_bytes: 430 * MIB, ..snapshot() };
        check(&quiet, &settings(), &[(text, "memory.limit = 576MiB")]);
    }

    #[test]
    fn a_replay_with_most_of_the_bytes_is_named_with_its_capacity() {
        let owners = vec![
            owner("run/replay/hot", 600 * MIB, 600 * MIB),
            owner("run/replay/mapped", 254 * MIB, 254 * MIB),
            owner("run/replayed", 500 * MIB, 500 * MIB),
        ];
        let text = "the replay holds 61 % of the counted bytes: replay.capacity = 50000 would free 427.0 MiB";
        check(&Snapshot { owners, ..snapshot() }, &settings(), &[(text, "replay.capacity = 50000")]);
    }

    #[test]
    fn activations_are_assessed_at_their_peak() {
        let owners = vec![owner("run/learner/activations", 0, 2100 * MIB)];
        let large = Snapshot { owners, ..snapshot() };
        let text = "the activations of a learner step take up to 60 % of the counted bytes: \
                    agent.micro_batch = 16 would free 1.03 GiB";
        check(&large, &settings(), &[(text, "agent.micro_batch = 16")]);
        let smallest = RunSettings { micro_batch: 1, activations: Some(ActivationMode::Keep), ..settings() };
        let text = "the activations of a learner step take up to 60 % of the counted bytes at the smallest micro-batch: \
                    memory.activations = recompute would compute the 2.05 GiB again instead of keeping them";
        check(&large, &smallest, &[(text, "memory.activations = recompute")]);
        check(&large, &RunSettings { activations: Some(ActivationMode::Recompute), ..smallest }, &[]);
    }

    #[test]
    fn environments_are_named_with_their_setting() {
        let owners = vec![owner("run/actor/windows", 1000 * MIB, 1000 * MIB)];
        let text =
            "the environments hold 71 % of the counted bytes: run.n_environments = 4 would free 500.0 MiB";
        check(&Snapshot { owners, ..snapshot() }, &settings(), &[(text, "run.n_environments = 4")]);
    }

    #[test]
    fn refusals_ask_for_less_or_for_a_higher_limit_where_there_is_room() {
        let denied = Snapshot { n_denied: 12, ..snapshot() };
        let higher = "12 allocations were refused at the memory limit of 2.00 GiB, and 8.00 GiB are unused around the process: \
                      memory.limit = 2560MiB is a quarter more";
        check(&denied, &settings(), &[(higher, "memory.limit = 2560MiB")]);
        let kept = RunSettings { activations: Some(ActivationMode::Keep), ..settings() };
        let full = Snapshot { available_bytes: Some(100 * MIB), ..denied };
        let auto = "12 allocations were refused while every activation is kept: memory.activations = auto computes \
                    them again where the memory limit has no room";
        check(&full, &kept, &[(auto, "memory.activations = auto")]);
    }
}
