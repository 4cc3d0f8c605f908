//! The networks agree with the PyTorch modules of `trainer/src/export/plimsoll_torch.py`, computed in float64.

use std::collections::BTreeMap;
use std::path::Path;

use memsys::nn::parameters::{Layout, Weights};
use safetensors::{Dtype, SafeTensors};
use tch::{Device, Kind, Tensor};

use crate::tests::rng_lock;
use crate::{Embedding, Fused, Mode, Preset, Views};

/// Largest difference, as a fraction of the largest number of a tensor.
const TOLERANCE: f64 = 1e-5;

struct Fixture(BTreeMap<String, (Vec<i64>, Vec<f64>)>);

impl Fixture {
    fn open(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(name);
        let bytes = std::fs::read(&path).unwrap();
        let numbers = |dtype, data: &[u8]| match dtype {
            Dtype::F32 => data.as_chunks().0.iter().map(|&b| f64::from(f32::from_le_bytes(b))).collect(),
            Dtype::F64 => data.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b)).collect(),
            Dtype::I64 => data.as_chunks().0.iter().map(|&b| i64::from_le_bytes(b) as f64).collect(),
            other => panic!("{other:?} in a fixture"),
        };
        let read = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
            let shape = view.shape().iter().map(|&n| n as i64).collect();
            (name, (shape, numbers(view.dtype(), view.data())))
        };
        Self(SafeTensors::deserialize(&bytes).unwrap().tensors().into_iter().map(read).collect())
    }

    fn numbers(&self, name: &str) -> &[f64] {
        &self.0.get(name).unwrap_or_else(|| panic!("no {name} in the fixture")).1
    }

    fn tensor(&self, name: &str) -> Tensor {
        let (shape, numbers) = &self.0[name];
        Tensor::from_slice(numbers).view(shape.as_slice()).to_kind(Kind::Float)
    }
}

/// sin(0.37 i² + phase), as in the script.
fn chirp(n: usize, phase: f64) -> Vec<f64> {
    (0..n).map(|i| (0.37 * i as f64 * i as f64 + phase).sin()).collect()
}

/// Fills the weights as the script's `fill` does.
fn fill(weights: &Weights) {
    let mut named: Vec<_> = weights.named().collect();
    named.sort_by_key(|(name, _)| *name);
    for (rank, (name, view)) in named.into_iter().enumerate() {
        let mut values = chirp(view.numel(), rank as f64);
        let shape = view.size();
        let fan_in: i64 = shape[1..].iter().product();
        let centre = if name.ends_with("weight") { 1.0 } else { 0.0 };
        for value in &mut values {
            *value = if shape.len() > 1 { *value / (fan_in as f64).sqrt() } else { 0.1 * *value + centre };
        }
        let values = Tensor::from_slice(&values).to_kind(Kind::Float).view(shape.as_slice());
        tch::no_grad(|| view.shallow_clone().copy_(&values));
    }
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    Vec::try_from(tensor.detach().to_kind(Kind::Double).reshape(-1)).unwrap()
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |largest, value| value.abs().max(largest))
}

fn check(what: &str, found: &[f64], wanted: &[f64], scale: f64) {
    assert_eq!(found.len(), wanted.len(), "{what}");
    let difference = found.iter().zip(wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(difference <= TOLERANCE * scale, "{what}: {difference:e} of {scale:e}, {:e}", difference / scale);
}

fn check_preset(preset: Preset, fixture: &str) {
    // Other tests read the ledger, which counts the tensors of all threads.
    let _lock = rng_lock::seeded(1);
    let fixture = Fixture::open(fixture);
    let mut layout = Layout::new();
    let fused = Fused::new(&mut layout, "", &preset.widths());
    let mut weights = Weights::zeros(&layout, Device::Cpu).unwrap();
    fill(&weights);
    let _gradients = weights.record_gradients().unwrap();
    let input = |part| fixture.tensor(&format!("input.{part}")).set_requires_grad(true);
    let views = Views {
        structure: input("structure"),
        tactical: input("tactical"),
        regime: input("regime"),
        lvn: input("lvn"),
    };
    let mode = Mode::Evaluate;
    let parts: [(&str, &Tensor, Embedding); 4] = [
        ("structure", &views.structure, fused.structure.forward(&weights, &views.structure, mode).unwrap()),
        ("tactical", &views.tactical, fused.tactical.forward(&weights, &views.tactical, mode).unwrap()),
        ("regime", &views.regime, fused.regime.forward(&weights, &views.regime, mode).unwrap()),
        ("lvn", &views.lvn, fused.lvn.forward(&weights, &views.lvn, mode).unwrap()),
    ];
    for (part, x, Embedding { mean, spread }) in &parts {
        let share = |what: &str| fixture.tensor(&format!("{part}.{what}.share"));
        let loss = (mean * share("mean")).sum(Kind::Float) + (spread * share("spread")).sum(Kind::Float);
        loss.backward();
        let compare = |name: String, found: &Tensor| {
            let wanted = fixture.numbers(&name);
            check(&name, &numbers(found), wanted, largest(wanted));
        };
        compare(format!("{part}.mean"), mean);
        compare(format!("{part}.spread"), spread);
        compare(format!("input.{part}.gradient"), &x.grad());
    }

    let shapes: BTreeMap<&str, Vec<f64>> =
        layout.names().map(|(name, shape)| (name, shape.iter().map(|&n| n as f64).collect())).collect();
    let wanted: BTreeMap<&str, Vec<f64>> =
        fixture.0.iter().filter_map(|(k, v)| Some((k.strip_prefix("shape.")?, v.1.clone()))).collect();
    assert_eq!(shapes, wanted, "names and shapes of parameters");

    for (name, view) in weights.named() {
        let gradient = numbers(&view.grad());
        let sample = fixture.numbers(&format!("gradient.{name}"));
        let &[most, length, first, second] = fixture.numbers(&format!("check.{name}")) else {
            panic!("{name}")
        };
        // Softmax cancels the bias of the pooling score: its gradient is 0 but for rounding.
        let scale = if name.ends_with("pool.bias") { 1.0 } else { most };
        let indices = (0..sample.len()).map(|i| {
            let last = (gradient.len() - 1) as f64;
            if sample.len() == 1 { 0 } else { linspace(last, sample.len(), i) as usize }
        });
        let found: Vec<f64> = indices.map(|index| gradient[index]).collect();
        check(name, &found, sample, scale);
        check(name, &[largest(&gradient)], &[most], scale);
        // The product with a direction of unit variance is about the gradient's norm.
        let along =
            |phase| chirp(gradient.len(), phase).iter().zip(&gradient).map(|(a, b)| a * b).sum::<f64>();
        check(name, &[along(0.5), along(2.5)], &[first, second], length.max(scale));
    }
}

/// `torch.linspace(0, last, n)[i]`. PyTorch counts from the nearer end.
fn linspace(last: f64, n: usize, i: usize) -> f64 {
    let step = last / (n - 1) as f64;
    if i < n / 2 { step * i as f64 } else { last - step * (n - 1 - i) as f64 }
}

#[test]
fn compact_agrees_with_pytorch_in_float64() {
    check_preset(Preset::Compact, "embedders_compact.safetensors");
}

#[test]
fn full_agrees_with_pytorch_in_float64() {
    check_preset(Preset::Full, "embedders_full.safetensors");
}
