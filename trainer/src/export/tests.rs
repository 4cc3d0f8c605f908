//! The PyTorch module computes the action values that the network computes.

use std::path::Path;
use std::process::Command;

use agents::context::{AgentContext, ObservationKind};
use agents::dqn::config::DqnSettings;
use agents::dqn::{DqnConfig, Network};
use embedders::{EmbedderSettings, Mode, Preset};
use memsys::nn::parameters::Weights;
use safetensors::SafeTensors;
use tch::{Device, Kind, Tensor};

use super::{TORCH_MODULE, TORCH_MODULE_NAME};
use crate::config::Config;
use crate::export::metadata;
use crate::resolve::resolve_on;
use crate::run::tensor_file;

/// Largest difference of an action value.
const TOLERANCE: f64 = 1e-6;

/// The networks of the fixture `action_values.safetensors`, by name.
const NETWORKS: [&str; 5] = ["compact", "full", "plain", "cartpole", "cartpole_plain"];

fn settings(name: &str) -> Vec<String> {
    let mut settings = Vec::new();
    if name.starts_with("cartpole") {
        settings.push("run.environment=cartpole".to_owned());
    } else {
        settings.push(format!("embedders.preset={}", if name == "full" { "full" } else { "compact" }));
    }
    if name.ends_with("plain") {
        settings.push("agent.dueling=false".to_owned());
    }
    settings
}

fn network(name: &str) -> Network {
    let is_market = !name.starts_with("cartpole");
    let settings = DqnSettings {
        dueling: !name.ends_with("plain"),
        ..if is_market { DqnSettings::default() } else { DqnSettings::plain() }
    };
    let preset = if name == "full" { Preset::Full } else { Preset::Compact };
    let config: DqnConfig = settings.resolve(&AgentContext {
        observations: if is_market { ObservationKind::Market } else { ObservationKind::Plain },
        embedders: EmbedderSettings { preset, ..EmbedderSettings::default() },
        n_actions: if is_market { 3 } else { 2 },
        local_width: if is_market { 8 } else { 4 },
        offload_gradients: false,
        seed: 1,
    });
    Network::new(&config)
}

/// Fills the weights as `fill` of the fixture's script does.
fn filled(network: &Network) -> Weights {
    let weights = Weights::zeros(network.layout(), Device::Cpu).unwrap();
    let mut named: Vec<_> = weights.named().collect();
    named.sort_by_key(|(name, _)| *name);
    for (rank, (name, view)) in named.into_iter().enumerate() {
        let shape = view.size();
        let fan_in: i64 = shape[1..].iter().product();
        let centre = if name.ends_with("weight") { 1.0 } else { 0.0 };
        let value = |i: usize| {
            let chirp = (0.37 * i as f64 * i as f64 + rank as f64).sin();
            if shape.len() > 1 { chirp / (fan_in as f64).sqrt() } else { 0.1 * chirp + centre }
        };
        let values: Vec<f64> = (0..view.numel()).map(value).collect();
        let values = Tensor::from_slice(&values).to_kind(Kind::Float).view(shape.as_slice());
        tch::no_grad(|| view.shallow_clone().copy_(&values));
    }
    weights
}

fn fixture() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/action_values.safetensors");
    std::fs::read(path).unwrap()
}

fn tensor(fixture: &SafeTensors, name: &str) -> Tensor {
    let view = fixture.tensor(name).unwrap();
    let shape: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
    Tensor::from_data_size(view.data(), &shape, Kind::Float)
}

/// The values of the fixture's observations.
fn values(network: &Network, name: &str, weights: &Weights, fixture: &SafeTensors) -> Vec<f64> {
    let observations: Vec<Tensor> = if name.starts_with("cartpole") {
        vec![tensor(fixture, "input.observation")]
    } else {
        let views = ["structure", "tactical", "regime", "lvn", "account"];
        views.map(|view| tensor(fixture, &format!("input.{view}"))).into()
    };
    let values = tch::no_grad(|| network.values(weights, &observations, Mode::Evaluate)).unwrap();
    Vec::try_from(values.reshape([-1]).to_kind(Kind::Double)).unwrap()
}

fn check(name: &str, found: &[f64], wanted: &[f64]) {
    assert_eq!(found.len(), wanted.len(), "{name}");
    let difference = found.iter().zip(wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    let largest = wanted.iter().fold(1.0_f64, |largest, value| largest.max(value.abs()));
    assert!(difference <= TOLERANCE * largest, "{name}: {difference:e} of {largest:e}");
}

#[test]
fn action_values_are_those_of_the_pytorch_module() {
    let bytes = fixture();
    let fixture = SafeTensors::deserialize(&bytes).unwrap();
    for name in NETWORKS {
        let network = network(name);
        let wanted = tensor(&fixture, &format!("values.{name}")).reshape([-1]).to_kind(Kind::Double);
        let wanted: Vec<f64> = Vec::try_from(wanted).unwrap();
        check(name, &values(&network, name, &filled(&network), &fixture), &wanted);
    }
}

/// What Python does with the files of weights that it is given. Its status is 3 where it has no PyTorch.
const SCRIPT: &str = "
import sys
try:
    import plimsoll_torch as p
except ImportError:
    sys.exit(3)
_, x = p.read('fixture.safetensors')
o = {k[6:]: v for k, v in x.items() if k.startswith('input.')}
for path in sys.argv[1:]:
    n = p.load(path)
    print(*n(o if n.is_market else o['observation']).flatten().tolist())
";

#[test]
fn a_file_of_weights_loads_in_pytorch_and_gives_the_same_action_values() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(TORCH_MODULE_NAME), TORCH_MODULE).unwrap();
    std::fs::write(folder.path().join("fixture.safetensors"), fixture()).unwrap();
    let bytes = fixture();
    let fixture = SafeTensors::deserialize(&bytes).unwrap();
    let written = NETWORKS.map(|name| {
        let parts = resolve_on(Device::Cpu, &Config::load(None, &settings(name)).unwrap()).unwrap();
        let network = network(name);
        let weights = Weights::initial(network.layout(), 7, Device::Cpu).unwrap();
        let facts = metadata::of_weights(&metadata::of_run(&parts), "last", 0);
        let named: Vec<_> = weights.named().collect();
        let _ = tensor_file::write(&folder.path().join(name), &named, &facts).unwrap();
        values(&network, name, &weights, &fixture)
    });
    let python = std::env::var_os("PLIMSOLL_PYTHON").unwrap_or_else(|| "python3".into());
    let ran = Command::new(python).args(["-c", SCRIPT]).args(NETWORKS).current_dir(&folder).output();
    let Some(output) = ran.ok().filter(|output| output.status.code() != Some(3)) else {
        // `action_values_are_those_of_the_pytorch_module` holds the numbers without Python.
        eprintln!("skipped: python3 has no PyTorch (PLIMSOLL_PYTHON may name one that has)");
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), NETWORKS.len());
    for ((name, line), wanted) in NETWORKS.iter().zip(text.lines()).zip(written) {
        let found: Vec<f64> = line.split_whitespace().map(|value| value.parse().unwrap()).collect();
        check(name, &found, &wanted);
    }
}
