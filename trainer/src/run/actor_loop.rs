//! The actor's half of a run: it steps the environments, explores, and reports each step to the learner.

use std::sync::Arc;

use agents::Policy;
use agents::exploration::{Exploration, ExplorationPlan};
use buffers::frames::Dataset;
use buffers::replay::n_step::Ending;
use memsys::nn::parameters::Weights;
use memsys::step::room::with_room;
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;
use serde::{Deserialize, Serialize};
use tch::Device;

use crate::envs::Environment;
use crate::envs::observation::{Observation, observation_of, observe};
use crate::error::{Error, Result};

/// One step of one environment.
#[derive(Debug, Clone, PartialEq)]
pub struct TimeStep {
    /// The action that the environment took.
    pub action: u8,
    /// The reward that the agent learns from: reward minus penalty, before `reward_scale`.
    pub reward: f64,
    /// Whether and how the episode ended with this step.
    pub ending: Ending,
    /// The observation after the step.
    pub to: Observation,
    /// The first observation of the next episode, if this step ended one.
    pub begins: Option<Observation>,
}

/// One step of every environment.
#[derive(Debug)]
pub struct VectorStep {
    /// One step per environment, in the order of the environments.
    pub steps: Vec<TimeStep>,
    /// Environment steps taken so far, including these.
    pub environment_steps: u64,
    /// The probability of a random action in this step (ε).
    pub epsilon: f64,
    /// Returns of the episodes that ended in this step.
    pub returns: Vec<f64>,
}

/// Everything that the actor's later steps depend on. A checkpoint stores it.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct ActorState<E: Environment> {
    environments: Vec<E::State>,
    returns: Vec<u64>,
    exploration: Exploration,
    rng: Pcg64Mcg,
    environment_steps: u64,
}

/// The most environments that act in one batch. The rounding of a batch follows its size, so the size is part of the result
/// and does not depend on memory.
pub const MOST_AT_ONCE: usize = 64;

/// The greedy action of each observation. Where the memory limit refuses the bytes, it collects caches and tries the same
/// batch again.
///
/// # Errors
/// If libtorch refuses a call.
pub fn greedy_actions(
    policy: &dyn Policy,
    weights: &Weights,
    dataset: &Dataset,
    observations: &[Observation],
    device: Device,
) -> Result<Vec<u8>> {
    let mut actions = Vec::with_capacity(observations.len());
    for block in observations.chunks(MOST_AT_ONCE) {
        let act = || Ok::<_, Error>(policy.greedy(weights, &observe(dataset, block, device)?)?);
        actions.extend(with_room(act)?);
    }
    Ok(actions)
}

/// Acts in all environments at once.
#[derive(Debug)]
pub struct ActorLoop<E> {
    environments: Vec<E>,
    dataset: Arc<Dataset>,
    policy: Arc<dyn Policy>,
    device: Device,
    plan: ExplorationPlan,
    exploration: Exploration,
    /// Return of the running episode of each environment.
    returns: Vec<f64>,
    rng: Pcg64Mcg,
    environment_steps: u64,
}

impl<E: Environment> ActorLoop<E> {
    /// Starts an episode in each environment.
    ///
    /// # Panics
    /// If there are no environments.
    pub fn new(
        mut environments: Vec<E>,
        dataset: Arc<Dataset>,
        policy: Arc<dyn Policy>,
        device: Device,
        plan: ExplorationPlan,
    ) -> Self {
        let mut rng = Pcg64Mcg::seed_from_u64(plan.seed);
        for environment in &mut environments {
            environment.reset(&mut rng);
        }
        Self {
            exploration: Exploration::new(environments.len(), plan.mean_hold),
            returns: vec![0.0; environments.len()],
            policy,
            environments,
            dataset,
            device,
            plan,
            rng,
            environment_steps: 0,
        }
    }

    /// The current observation of each environment.
    #[must_use]
    pub fn observations(&self) -> Vec<Observation> {
        self.environments.iter().map(observation_of).collect()
    }

    /// Environment steps taken so far.
    #[must_use]
    pub fn environment_steps(&self) -> u64 {
        self.environment_steps
    }

    /// Steps every environment once, by the greedy actions of `weights` or by random ones.
    ///
    /// # Errors
    /// If libtorch refuses a call. Nothing has changed then.
    pub fn advance(&mut self, weights: &Weights) -> Result<VectorStep> {
        let is_random = self.environment_steps < self.plan.random_environment_steps;
        let epsilon = if is_random { 1.0 } else { self.plan.epsilon.at(self.environment_steps) };
        let mut actions = if is_random {
            vec![0; self.environments.len()]
        } else {
            greedy_actions(&*self.policy, weights, &self.dataset, &self.observations(), self.device)?
        };
        let n_actions = self.environments[0].n_actions();
        self.exploration.explore(&mut actions, n_actions, epsilon, &mut self.rng);

        let mut steps = Vec::with_capacity(actions.len());
        let mut returns = Vec::new();
        let environments = self.environments.iter_mut().zip(actions).zip(&mut self.returns);
        for (index, ((environment, action), total)) in environments.enumerate() {
            let step = environment.step(action.into());
            *total += step.reward;
            let ending = match (step.terminated, step.truncated) {
                (true, _) => Ending::Terminated,
                (false, true) => Ending::Truncated,
                (false, false) => Ending::Goes,
            };
            let to = observation_of(environment);
            let begins = step.ends_episode().then(|| {
                returns.push(std::mem::take(total));
                self.exploration.end_episode(index);
                environment.reset(&mut self.rng);
                observation_of(environment)
            });
            steps.push(TimeStep { action, reward: step.learned_reward(), ending, to, begins });
        }
        self.environment_steps += steps.len() as u64;
        Ok(VectorStep { steps, environment_steps: self.environment_steps, epsilon, returns })
    }

    /// The state to save.
    #[must_use]
    pub fn state(&self) -> ActorState<E> {
        ActorState {
            environments: self.environments.iter().map(E::state).collect(),
            returns: self.returns.iter().map(|total| total.to_bits()).collect(),
            exploration: self.exploration.clone(),
            rng: self.rng.clone(),
            environment_steps: self.environment_steps,
        }
    }

    /// Restores a saved state.
    pub fn restore(&mut self, state: ActorState<E>) {
        for (environment, saved) in self.environments.iter_mut().zip(state.environments) {
            environment.restore(saved);
        }
        self.returns = state.returns.into_iter().map(f64::from_bits).collect();
        self.exploration = state.exploration;
        self.rng = state.rng;
        self.environment_steps = state.environment_steps;
    }
}
