//! The actor's half of a run: environments, exploration, and what the learner is told of each step.

use std::sync::Arc;

use agents::Policy;
use agents::exploration::{Exploration, ExplorationPlan};
use buffers::frames::Dataset;
use buffers::replay::n_step::Ending;
use memsys::nn::parameters::Weights;
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;
use serde::{Deserialize, Serialize};
use tch::Device;

use crate::envs::Environment;
use crate::envs::observation::{Observation, observation_of, observe};
use crate::error::Result;

/// One step of one environment.
#[derive(Debug, Clone, PartialEq)]
pub struct TimeStep {
    /// What was done.
    pub action: u8,
    /// What the agent learns from: reward less penalty, unscaled.
    pub reward: f64,
    /// Whether the episode ended with it.
    pub ending: Ending,
    /// What was seen after it.
    pub to: Observation,
    /// Where the episode ended: what the next one begins with.
    pub begins: Option<Observation>,
}

/// What a round of all environments gave.
#[derive(Debug)]
pub struct VectorStep {
    /// One step an environment, in their order.
    pub steps: Vec<TimeStep>,
    /// Environment steps taken so far, this round included.
    pub environment_steps: u64,
    /// Share of random actions in the round.
    pub epsilon: f64,
    /// Returns of the episodes that ended in it.
    pub returns: Vec<f64>,
}

/// All that the actor's future depends on.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct ActorState<E: Environment> {
    environments: Vec<E::State>,
    returns: Vec<u64>,
    exploration: Exploration,
    rng: Pcg64Mcg,
    environment_steps: u64,
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
    /// Begins an episode in each environment.
    ///
    /// # Panics
    /// If there is no environment.
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

    /// What each environment shows now.
    #[must_use]
    pub fn seen(&self) -> Vec<Observation> {
        self.environments.iter().map(observation_of).collect()
    }

    /// Environment steps taken so far.
    #[must_use]
    pub fn environment_steps(&self) -> u64 {
        self.environment_steps
    }

    /// One step of every environment, by the greedy actions of `weights` and chance.
    ///
    /// # Errors
    /// If libtorch refuses a call.
    pub fn advance(&mut self, weights: &Weights) -> Result<VectorStep> {
        let is_random = self.environment_steps < self.plan.random_environment_steps;
        let epsilon = if is_random { 1.0 } else { self.plan.epsilon.at(self.environment_steps) };
        let mut actions = if is_random {
            vec![0; self.environments.len()]
        } else {
            let observations = observe(&self.dataset, &self.seen(), self.device)?;
            self.policy.greedy(weights, &observations)?
        };
        let n_actions = self.environments[0].n_actions();
        self.exploration.explore(&mut actions, n_actions, epsilon, &mut self.rng);

        let mut steps = Vec::with_capacity(actions.len());
        let mut returns = Vec::new();
        for ((environment, action), total) in self.environments.iter_mut().zip(actions).zip(&mut self.returns)
        {
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
                environment.reset(&mut self.rng);
                observation_of(environment)
            });
            steps.push(TimeStep { action, reward: step.learned_reward(), ending, to, begins });
        }
        self.environment_steps += steps.len() as u64;
        Ok(VectorStep { steps, environment_steps: self.environment_steps, epsilon, returns })
    }

    /// All that the future depends on.
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

    /// Goes back to a saved state.
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
