//! What every agent promises, by two of them.

use std::collections::BTreeMap;

use buffers::replay::TensorBatch;
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;
use tch::{Kind, Tensor};

use crate::agent::{Agent, Policy};
use crate::dqn::{Actor, Network};
use crate::tests::fixture::{config, dataset, learner_and_batches};
use crate::tests::random_agent::{RandomAgent, RandomPolicy};
use crate::tests::rng_lock;

fn check_agent(make: impl Fn() -> Box<dyn Agent>, batches: &[TensorBatch]) {
    let mut agent = make();
    agent.dry_run(&batches[0], 8).unwrap();
    assert_eq!(agent.n_steps(), 0);
    for batch in &batches[..3] {
        assert_eq!(agent.step(batch, 8).unwrap().td_errors.len(), batch.observation_refs.len());
    }
    assert_eq!((agent.n_steps(), agent.counters().n_steps), (3, 3));

    let saved: BTreeMap<String, Tensor> =
        agent.tensors().into_iter().map(|(name, tensor)| (name.to_owned(), tensor.detach().copy())).collect();
    assert!(saved["online"] == agent.online().flat().detach());
    let mut resumed = make();
    for (name, tensor) in resumed.tensors() {
        tch::no_grad(|| tensor.shallow_clone().copy_(&saved[name]));
    }
    resumed.resume_at(agent.counters());
    for batch in &batches[3..] {
        assert_eq!(agent.step(batch, 8).unwrap(), resumed.step(batch, 8).unwrap());
    }
    for ((name, a), (_, b)) in agent.tensors().into_iter().zip(resumed.tensors()) {
        assert!(*a == *b, "{name}");
    }
}

#[test]
fn an_agent_that_is_restored_goes_on_to_the_same_bits() {
    let _lock = rng_lock::lock();
    let (_, batches) = learner_and_batches(config(4), 6, 32);
    check_agent(|| Box::new(learner_and_batches(config(4), 0, 32).0), &batches);
    check_agent(|| Box::new(RandomAgent::new(3)), &batches);
}

#[test]
fn a_random_agent_learns_the_mean_reward() {
    let _lock = rng_lock::lock();
    let (_, batches) = learner_and_batches(config(4), 1, 32);
    let mut agent = RandomAgent::new(3);
    for _ in 0..300 {
        agent.step(&batches[0], 8).unwrap();
    }
    let mean = batches[0].rewards.mean(Kind::Float).double_value(&[]);
    assert!((agent.online().flat().double_value(&[0]) - mean).abs() < 1e-3);
}

#[test]
fn a_policy_acts_on_embeddings_as_on_windows() {
    let _lock = rng_lock::lock();
    let (learner, batches) = learner_and_batches(config(4), 1, 32);
    let (batch, weights) = (&batches[0], learner.online());
    let policies: [Box<dyn Policy>; 2] =
        [Box::new(Actor::new(Network::new(&config(4)))), Box::new(RandomPolicy::new(3))];
    let dataset = dataset(&mut Pcg64Mcg::seed_from_u64(9));
    let local = batch.observations[4].reshape([32, -1]);
    for policy in &policies {
        let width = policy.embedding_width();
        let mut embeddings = Vec::new();
        for observation in &batch.observation_refs {
            let t = observation.t as usize;
            let numbers = policy.embed_range(weights, &dataset, observation.instrument, t..t + 1).unwrap();
            assert_eq!(numbers.len(), width);
            embeddings.extend(numbers);
        }
        let embeddings = Tensor::from_slice(&embeddings).view([32, width as i64]);
        let by_embedding = policy.greedy_of_embedding(weights, &embeddings, &local).unwrap().actions;
        let by_window = policy.greedy(weights, &batch.observations).unwrap();
        assert!(by_embedding.len() == 32 && by_embedding.iter().all(|action| *action < 3));
        assert!(width == 0 || by_embedding == by_window);
        assert!(policy.activation_bytes().kept > policy.activation_bytes().evaluated);
    }
}
