//! The networks with an activation mode for each stage, and the choice of those modes by measured bytes.

use memsys::libtorch::count_tensors;
use memsys::nn::activations;
use memsys::nn::activations::{ActivationMode, Options, StageModes, traced};
use memsys::step::cost::{ModeCost, StepConfig, StepCosts};
use memsys::step::stage_cost::{ModeTraces, StageCosts};
use memsys::step::stage_trace::StageTrace;

use crate::Preset;
use crate::tests::activation_modes::{Network, Which};
use crate::tests::rng_lock;

const MODES: [ActivationMode; 3] = [ActivationMode::Keep, ActivationMode::Recompute, ActivationMode::Spill];
/// Stages of the joint network.
const N_STAGES: usize = 15;

fn check_gradients(preset: Preset) {
    let _lock = rng_lock::seeded(1);
    let mut network = Network::new(preset, 0.2, 3);
    let expected = network.step(Which::All);
    // A linear congruential generator (Knuth's MMIX).
    let mut state = 7u64;
    let mut draw = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        MODES[(state >> 33) as usize % 3]
    };
    for _ in 0..16 {
        let modes = (0..N_STAGES).fold(StageModes::default(), |modes, stage| modes.with(stage, draw()));
        let options = Options { modes, threshold_bytes: 0, ..Options::default() };
        let _scope = activations::enter(&options).unwrap();
        assert_eq!(network.step(Which::All), expected, "{modes:?}");
    }
}

#[test]
fn random_modes_of_stages_give_the_gradients_of_compact_to_the_bit() {
    check_gradients(Preset::Compact);
}

#[test]
fn random_modes_of_stages_give_the_gradients_of_full_to_the_bit() {
    check_gradients(Preset::Full);
}

/// One pass of a micro-batch. The first pass makes kernels resident.
fn trace(network: &mut Network, modes: impl Into<StageModes>) -> StageTrace {
    let options = Options { modes: modes.into(), threshold_bytes: 0, ..Options::default() };
    let _scope = activations::enter(&options).unwrap();
    let mut pass = || traced(|| drop(network.step(Which::All))).1.expect("every stage occurs once");
    let first = pass();
    pass().with_shorter_times(&first)
}

fn measured(preset: Preset, micro_batch: usize) -> (StepCosts, Network) {
    count_tensors().unwrap();
    let sizes = [4, 8];
    let traces = MODES.map(|mode| {
        let traces = sizes.map(|size| {
            let mut network = Network::new(preset, 0.2, size as i64);
            (size, trace(&mut network, mode))
        });
        ModeTraces { mode, traces }
    });
    let cost = |of: &ModeTraces| {
        let peaks = of.traces.each_ref().map(|(size, trace)| (*size, trace.peak_bytes));
        let (size, trace) = &of.traces[1];
        ModeCost::through(of.mode, peaks, trace.micros / *size as f64)
    };
    let costs = StepCosts {
        smallest: micro_batch,
        largest: micro_batch,
        costs: traces.iter().map(cost).collect(),
        ..StepCosts::default()
    };
    let stages = StageCosts::new(&traces).expect("the passes go through the same stages");
    (costs.with_stages(&stages, 0), Network::new(preset, 0.2, micro_batch as i64))
}

/// 30 limits from the minimum to beyond the peak of `keep`.
fn check_limits(preset: Preset, micro_batch: usize) {
    let _lock = rng_lock::seeded(2);
    let (costs, mut network) = measured(preset, micro_batch);
    let mut known: Vec<(StageModes, u64)> = Vec::new();
    let mut peak_bytes = |StepConfig { modes, .. }: StepConfig| {
        if let Some((_, bytes)) = known.iter().find(|(of, _)| *of == modes) {
            return *bytes;
        }
        known.push((modes, trace(&mut network, modes).peak_bytes));
        known[known.len() - 1].1
    };
    let keep = costs.peak_bytes(StepConfig::new(micro_batch, ActivationMode::Keep)).unwrap();
    for (_, combination) in &costs.combinations {
        let (real, planned) =
            (peak_bytes(StepConfig::new(micro_batch, combination.modes)), combination.peak_bytes);
        assert!(real <= planned + planned / 20, "{combination:?}: measured {real}");
        assert!(planned <= real + real / 10, "{combination:?}: measured {real}");
    }
    let (_, leanest) = costs.leanest().unwrap();
    let (mut planned, mut real, mut micros, mut n_modes) = (0, 0, f64::INFINITY, 0);
    let mut before = None;
    for step in 0..30 {
        let limit = leanest + (keep + keep / 20 - leanest) * step / 29;
        // As a run does: each limit begins with the same measurements.
        let mut costs = costs.clone();
        let mut chosen = costs.choose(limit);
        while let Some(unmeasured) = chosen.filter(|chosen| !costs.is_measured(*chosen)) {
            costs.measured.push((unmeasured, peak_bytes(unmeasured)));
            chosen = costs.choose(limit);
        }
        let Some(chosen) = chosen else {
            assert_eq!(before, None, "limit {limit}: a lower one had room");
            continue;
        };
        let now = (costs.peak_bytes(chosen).unwrap(), peak_bytes(chosen));
        let now_micros = costs.micros_per_sample(chosen).unwrap();
        println!("limit {limit}: {chosen}, planned and measured {now:?}");
        assert!(now.0 <= limit && now.1 <= limit, "limit {limit}: planned and measured {now:?}");
        assert!(now.0 >= planned && now.1 >= real, "limit {limit}: {now:?} after {:?}", (planned, real));
        assert!(now_micros <= micros, "limit {limit}: {now_micros} after {micros}");
        n_modes += usize::from(before != Some(chosen));
        (planned, real, micros, before) = (now.0, now.1, now_micros, Some(chosen));
    }
    assert_eq!(before, Some(StepConfig::new(micro_batch, ActivationMode::Keep)));
    assert!(n_modes >= 6, "only {n_modes} different step configurations");
}

#[test]
fn a_higher_limit_never_gives_compact_fewer_bytes_or_more_time() {
    check_limits(Preset::Compact, 32);
}

#[test]
fn a_higher_limit_never_gives_full_fewer_bytes_or_more_time() {
    check_limits(Preset::Full, 8);
}
