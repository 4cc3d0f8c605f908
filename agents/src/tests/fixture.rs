//! A market of random numbers, a replay over it, and a DQN for it.

use std::sync::Arc;

use buffers::frames::{Clock, Dataset, FrameStream, Instrument, ObservationRef, View};
use buffers::replay::{Replay, ReplayOptions, StoreOptions, TensorBatch, Transition};
use embedders::Preset;
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;
use tch::Device;

use crate::dqn::{Body, DqnConfig, Learner, Network, TargetUpdate};
use crate::update::Precision;

const N_STEPS: usize = 400;
const FIRST_STEP: usize = 300;

pub(crate) fn dataset(rng: &mut Pcg64Mcg) -> Arc<Dataset> {
    let view = |name, length, width, stride, clock| View { name, length, width, stride, clock };
    let views = vec![
        view("structure", 48, 8, 1, Clock::Slow),
        view("tactical", 60, 7, 1, Clock::Decision),
        view("regime", 20, 8, 6, Clock::Decision),
        view("lvn", 1, 5, 1, Clock::Decision),
        view("account", 1, 8, 1, Clock::Local),
    ];
    let mut stream = |view: &View| {
        let mut stream = FrameStream::new(view.width);
        for _ in 0..N_STEPS {
            let row: Vec<f32> = (0..view.width).map(|_| rng.random::<f32>() * 2.0 - 1.0).collect();
            stream.append(&row);
        }
        stream
    };
    let streams = views.iter().map(&mut stream).collect();
    let slow_row = (0..N_STEPS as u32).map(|t| t / 6).collect();
    Arc::new(Dataset::new(views, vec![Instrument { streams, slow_row, first_step: FIRST_STEP }]))
}

pub(crate) fn replay(dataset: &Arc<Dataset>, rng: &mut Pcg64Mcg) -> Replay {
    let options = ReplayOptions {
        capacity_transitions: 256,
        priority_exponent: 0.6,
        n_environments: 1,
        local_width: 8,
        copies_observations: false,
        store: StoreOptions::default(),
    };
    let mut replay = Replay::new(&options, Arc::clone(dataset)).unwrap();
    let mut local = |replay: &mut Replay| {
        let row: Vec<f32> = (0..8).map(|_| rng.random::<f32>()).collect();
        replay.append_local(0, &row).unwrap()
    };
    let mut at_row = local(&mut replay);
    for t in FIRST_STEP as u32..(N_STEPS - 3) as u32 {
        let from = ObservationRef { t, local: at_row, ..ObservationRef::default() };
        at_row = local(&mut replay);
        let (action, reward) = ((t % 3) as u8, (t as f32).sin());
        let (to_t, to_local, discount) = (t + 3, at_row, 0.9);
        replay.insert(Transition { from, to_t, to_local, action, reward, discount }).unwrap();
    }
    replay
}

pub(crate) fn config(interval: u64) -> DqnConfig {
    DqnConfig {
        body: Body::Market { preset: Preset::Compact, dropout: None },
        hidden: 32,
        n_actions: 3,
        local_width: 8,
        double: true,
        dueling: true,
        learning_rate: 1e-3,
        max_gradient_norm: 10.0,
        target_update: TargetUpdate::Periodic { interval },
        reward_scale: 1.0,
        batch: 32,
        precision: Precision::F32,
        offload_gradients: false,
        seed: 3,
    }
}

/// A learner over the market, and `n` batches of `n_rows` from its replay.
pub(crate) fn learner_and_batches(config: DqnConfig, n: usize, n_rows: usize) -> (Learner, Vec<TensorBatch>) {
    let mut rng = Pcg64Mcg::seed_from_u64(9);
    let dataset = dataset(&mut rng);
    let replay = replay(&dataset, &mut rng);
    let learner = Learner::new(config, Network::new(&config), dataset, Device::Cpu).unwrap();
    let batches = (0..n).map(|_| replay.sample(n_rows, 0.5, &mut rng).unwrap()).collect();
    (learner, batches)
}
