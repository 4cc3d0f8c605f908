//! The networks under every activation mode, and in bfloat16.

use memsys::ledger::Owner;
use memsys::libtorch::count_tensors;
use memsys::nn::activations;
use memsys::nn::activations::{ActivationMode, Options, Scope};
use memsys::nn::parameters::{Layout, Weights};
use memsys::nn::precision::autocast;
use tch::{Device, Kind, Tensor};

use crate::tests::rng_lock;
use crate::{Fused, Mode, Preset, Views};

pub(super) struct Network {
    fused: Fused,
    weights: Weights,
    gradients: Tensor,
    views: Views,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Which {
    Structure,
    Tactical,
    Regime,
    Lvn,
    All,
}

impl Network {
    pub(super) fn new(preset: Preset, dropout: f64, batch: i64) -> Self {
        let mut layout = Layout::new();
        let fused = Fused::new(&mut layout, "", &preset.widths().with_dropout(Some(dropout)));
        let mut weights = Weights::initial(&layout, 1, Device::Cpu).unwrap();
        let gradients = weights.record_gradients().unwrap();
        let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu));
        let views = Views {
            structure: random(&[batch, 48, 8]),
            tactical: random(&[batch, 60, 7]),
            regime: random(&[batch, 20, 8]),
            lvn: random(&[batch, 5]),
        };
        Self { fused, weights, gradients, views }
    }

    fn mean(&self, which: Which) -> Tensor {
        let (weights, views, mode) = (&self.weights, &self.views, Mode::Train);
        match which {
            Which::Structure => self.fused.structure.forward(weights, &views.structure, mode).unwrap().mean,
            Which::Tactical => self.fused.tactical.forward(weights, &views.tactical, mode).unwrap().mean,
            Which::Regime => self.fused.regime.forward(weights, &views.regime, mode).unwrap().mean,
            Which::Lvn => self.fused.lvn.forward(weights, &views.lvn, mode).unwrap().mean,
            Which::All => self.fused.forward(weights, views, mode).unwrap().mean,
        }
    }

    /// Value and gradients of one step. Leaves the flat gradients zero.
    pub(super) fn step(&mut self, which: Which) -> (Tensor, Tensor) {
        tch::manual_seed(5);
        let mean = self.mean(which);
        mean.square().mean(Kind::Float).f_backward().unwrap();
        let gradients = self.gradients.copy();
        let _ = self.gradients.zero_();
        (mean.detach(), gradients)
    }
}

fn scope(mode: ActivationMode, threshold_bytes: u64) -> Scope {
    activations::enter(&Options { modes: mode.into(), threshold_bytes, ..Options::default() }).unwrap()
}

fn check_gradients(preset: Preset) {
    let _lock = rng_lock::seeded(1);
    let mut network = Network::new(preset, 0.2, 3);
    for which in [Which::Structure, Which::Tactical, Which::Regime, Which::Lvn, Which::All] {
        let expected = network.step(which);
        assert!(expected.1.abs().max().double_value(&[]) > 0.0);
        for (mode, threshold_bytes) in [
            (ActivationMode::Keep, 0),
            (ActivationMode::Recompute, 0),
            (ActivationMode::Spill, 0),
            (ActivationMode::Spill, 64 << 10),
        ] {
            let _scope = scope(mode, threshold_bytes);
            assert_eq!(network.step(which), expected, "{which:?}, {mode:?}, {threshold_bytes} bytes");
        }
    }
}

#[test]
fn every_activation_mode_gives_the_gradients_of_compact_to_the_bit() {
    check_gradients(Preset::Compact);
}

#[test]
fn every_activation_mode_gives_the_gradients_of_full_to_the_bit() {
    check_gradients(Preset::Full);
}

#[test]
fn recompute_and_spill_lower_the_peak_and_leave_nothing() {
    let _lock = rng_lock::seeded(2);
    let mut network = Network::new(Preset::Compact, 0.2, 64);
    let _ = network.step(Which::All);
    count_tensors().unwrap();
    let mut peak_bytes = |which, mode, owner| {
        let _scope = scope(mode, 0);
        let owner = Owner::named(owner);
        {
            let _entered = owner.enter();
            drop(network.step(which));
        }
        assert_eq!(owner.tensor_bytes(), 0, "{which:?}, {mode:?}");
        owner.peak_bytes()
    };
    for (which, owners) in [
        (Which::Structure, ["test/structure/keep", "test/structure/recompute", "test/structure/spill"]),
        (Which::Tactical, ["test/tactical/keep", "test/tactical/recompute", "test/tactical/spill"]),
        (Which::All, ["test/all/keep", "test/all/recompute", "test/all/spill"]),
    ] {
        let keep = peak_bytes(which, ActivationMode::Keep, owners[0]);
        let recompute = peak_bytes(which, ActivationMode::Recompute, owners[1]);
        let spill = peak_bytes(which, ActivationMode::Spill, owners[2]);
        println!("{which:?}, peak bytes: keep {keep}, recompute {recompute}, spill {spill}");
        assert!(recompute * 10 < keep * 8, "{which:?}: {recompute} of {keep}");
        assert!(spill * 10 < keep * 7, "{which:?}: {spill} of {keep}");
    }
}

#[test]
fn bfloat16_agrees_to_a_few_percent_and_its_gradients_are_f32() {
    let _lock = rng_lock::seeded(3);
    let mut network = Network::new(Preset::Compact, 0.0, 8);
    let wide = network.step(Which::All);
    for mode in [ActivationMode::Keep, ActivationMode::Recompute, ActivationMode::Spill] {
        let _scope = scope(mode, 0);
        let _narrow = autocast(Some(Kind::BFloat16), Device::Cpu).unwrap();
        let narrow = network.step(Which::All);
        assert_eq!(narrow.1.kind(), Kind::Float);
        for (narrow, wide) in [(&narrow.0, &wide.0), (&narrow.1, &wide.1)] {
            let difference = (narrow - wide).norm().double_value(&[]) / wide.norm().double_value(&[]);
            assert!(difference > 0.0 && difference < 0.04, "{mode:?}: {difference}");
        }
    }
}
