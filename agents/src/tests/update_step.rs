//! The update step, tested through a DQN whose loss goes through embedders with dropout.

use embedders::Preset;
use memsys::ledger::budget;
use memsys::nn::activations;
use memsys::nn::activations::ActivationMode;
use memsys::nn::parameters::{Init, Layout, Weights};
use tch::{Device, Kind, Tensor};

use crate::agent::{Agent, Outcome};
use crate::dqn::{Body, DqnConfig, Learner, TargetUpdate};
use crate::error::Error;
use crate::tests::fixture::{config, learner_and_batches};
use crate::tests::rng_lock;
use crate::update::{Precision, UpdateOptions, UpdateStep};

fn options() -> UpdateOptions {
    UpdateOptions {
        learning_rate: 0.1,
        max_gradient_norm: 1.0,
        precision: Precision::F32,
        offload_gradients: false,
        seed: 1,
    }
}

fn saved(learner: &Learner, name: &str) -> Tensor {
    let tensors = learner.tensors();
    tensors.into_iter().find(|(saved, _)| *saved == name).unwrap().1.detach().copy()
}

/// One learner step over a batch of 128, and the learner after it.
fn stepped(config: DqnConfig, micro_batch: usize, mode: Option<ActivationMode>) -> (Outcome, Learner) {
    let _lock = rng_lock::lock();
    let (mut learner, batches) = learner_and_batches(config, 1, 128);
    let _activations = mode.map(|mode| {
        let modes = mode.into();
        activations::enter(&activations::Options { modes, ..activations::Options::default() }).unwrap()
    });
    let outcome = learner.step(&batches[0], micro_batch).unwrap();
    (outcome, learner)
}

/// Distance of two tensors as a part of the second.
fn relative_error(found: &Tensor, expected: &Tensor) -> f64 {
    (found - expected).norm().double_value(&[]) / expected.norm().double_value(&[])
}

#[test]
fn every_activation_mode_gives_the_same_bits() {
    let dropout = Body::Market { preset: Preset::Compact, dropout: Some(0.2) };
    let with_dropout = DqnConfig { body: dropout, ..config(50) };
    let (plain, expected) = stepped(with_dropout, 16, None);
    for mode in [ActivationMode::Keep, ActivationMode::Recompute, ActivationMode::Spill] {
        let (outcome, learner) = stepped(with_dropout, 16, Some(mode));
        assert_eq!(plain, outcome, "{mode:?}");
        for (name, tensor) in expected.tensors() {
            assert!(*tensor == saved(&learner, name), "{mode:?}: {name}");
        }
    }
}

#[test]
fn gradients_of_micro_batches_are_those_of_the_batch_to_five_digits() {
    // The first moment after one step is a tenth of the gradient. Without dropout: its draws depend on the shapes.
    let moment = |micro_batch| saved(&stepped(config(50), micro_batch, None).1, "first_moment");
    let error = relative_error(&moment(8), &moment(128));
    assert!(error < 1e-5, "{error}");
}

#[test]
fn micro_batches_give_the_result_of_the_whole_batch() {
    let _lock = rng_lock::lock();
    let soft = DqnConfig { target_update: TargetUpdate::Soft { tau: 0.1 }, ..config(1) };
    let (mut whole, batches) = learner_and_batches(soft, 12, 32);
    let (mut parts, _) = learner_and_batches(soft, 0, 32);
    for batch in &batches {
        let expected = whole.step(batch, 32).unwrap().td_errors;
        let found = parts.step(batch, 8).unwrap().td_errors;
        let largest = expected.iter().fold(0f32, |largest, error| largest.max(error.abs()));
        assert!(expected.iter().zip(&found).all(|(a, b)| (a - b).abs() < 1e-3 * largest));
    }
    // Adam moves a weight by up to 1e-3 per step, whatever the size of its gradient: a tenth of the way of twelve.
    let difference = (whole.online().flat() - parts.online().flat()).abs().max().double_value(&[]);
    assert!(difference < 1.2e-3, "{difference}");
}

#[test]
fn offloaded_gradients_give_the_same_bits() {
    let offloaded = DqnConfig { offload_gradients: true, ..config(50) };
    let online = |config| saved(&stepped(config, 8, None).1, "online");
    assert!(online(offloaded) == online(config(50)));
}

#[test]
fn bf16_is_close_to_f32_and_its_sums_are_f32() {
    let moment =
        |precision| saved(&stepped(DqnConfig { precision, ..config(50) }, 128, None).1, "first_moment");
    let (narrow, wide) = (moment(Precision::Bf16), moment(Precision::F32));
    assert_eq!(narrow.kind(), Kind::Float);
    let error = relative_error(&narrow, &wide);
    assert!((1e-5..0.1).contains(&error), "{error}");
}

#[test]
fn a_step_that_fails_changes_nothing() {
    let _lock = rng_lock::lock();
    let (mut learner, mut batches) = learner_and_batches(config(50), 2, 32);
    let (mut untouched, _) = learner_and_batches(config(50), 0, 32);
    // The last micro-batch has an action out of range, when the others have added their gradients.
    let broken = &mut batches[0];
    broken.actions = Tensor::cat(&[&broken.actions.narrow(0, 0, 31), &Tensor::from_slice(&[99i64])], 0);
    assert!(learner.step(&batches[0], 8).is_err());
    assert_eq!(learner.n_steps(), 0);
    // Gradients left behind would show in the next step.
    assert_eq!(learner.step(&batches[1], 8).unwrap(), untouched.step(&batches[1], 8).unwrap());
    assert!(saved(&learner, "online") == saved(&untouched, "online"));
}

#[test]
fn a_commit_allocates_less_than_the_room_that_is_kept_for_it() {
    let _lock = rng_lock::lock();
    memsys::libtorch::count_tensors().unwrap();
    let _small = budget::commit(|| Tensor::zeros([1000], (Kind::Float, Device::Cpu)));
    assert!(budget::most_in_commit_bytes() >= 4000, "what a commit allocates is seen");
    let soft = DqnConfig { target_update: TargetUpdate::Soft { tau: 0.1 }, ..config(1) };
    let offloaded = DqnConfig { offload_gradients: true, ..config(1) };
    for config in [config(1), soft, offloaded, DqnConfig { max_gradient_norm: 1e-3, ..config(1) }] {
        let (mut learner, batches) = learner_and_batches(config, 2, 32);
        let flat_bytes = learner.online().flat().numel() as u64 * 4;
        assert!(flat_bytes > 2 * budget::COMMIT_ROOM_BYTES, "a copy of the weights would be seen");
        batches.iter().for_each(|batch| drop(learner.step(batch, 32).unwrap()));
    }
    let most_bytes = budget::most_in_commit_bytes();
    assert!(most_bytes <= budget::COMMIT_ROOM_BYTES, "{most_bytes} bytes at once");
}

#[test]
fn a_dry_run_learns_nothing() {
    let _lock = rng_lock::lock();
    let (mut learner, batches) = learner_and_batches(config(50), 1, 32);
    let (mut untouched, _) = learner_and_batches(config(50), 0, 32);
    learner.dry_run(&batches[0], 8).unwrap();
    assert_eq!(learner.step(&batches[0], 8).unwrap(), untouched.step(&batches[0], 8).unwrap());
    assert!(saved(&learner, "online") == saved(&untouched, "online"));
}

#[test]
fn a_loss_that_is_no_number_is_an_error() {
    let _lock = rng_lock::lock();
    let (mut learner, batches) =
        learner_and_batches(DqnConfig { reward_scale: f64::NAN, ..config(50) }, 1, 32);
    assert!(matches!(learner.step(&batches[0], 32), Err(Error::Diverged { learner_step: 0, .. })));
}

#[test]
fn the_gradient_is_clipped_before_it_is_applied_and_its_norm_told_before_the_clip() {
    let _lock = rng_lock::lock();
    let mut layout = Layout::new();
    let id = layout.add("w", &[1], Init::Constant(2.0));
    let mut update = UpdateStep::new(&layout, options(), Device::Cpu).unwrap();
    let accumulated = update.accumulate(4, 3, |online, micro_batch| {
        // Shares of the mean of 40 w over four rows.
        let share = (&online[id] * (10.0 * micro_batch.rows().len() as f64)).sum(Kind::Float);
        Ok((share, Tensor::ones([micro_batch.rows().len() as i64], (Kind::Float, Device::Cpu))))
    });
    let mut n_steps = 0;
    let count = |_: &Weights, n: u64| {
        n_steps = n;
        Ok(())
    };
    let updated = accumulated.unwrap().commit(count).unwrap();
    assert_eq!(n_steps, 1);
    assert_eq!((updated.loss, updated.extras.len()), (80.0, 4));
    assert!((updated.gradient_norm - 40.0).abs() < 1e-4);
    // Adam's first moment after one step is a tenth of the clipped gradient.
    assert!((update.tensors()[1].1.double_value(&[0]) - 0.1).abs() < 1e-5);
}
