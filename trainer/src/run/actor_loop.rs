//! The actor's half of a run: environments, exploration, and what the learner is told of each step.

use std::sync::Arc;

use agents::Policy;
use agents::exploration::{Exploration, ExplorationPlan};
use buffers::frames::{Clock, Dataset};
use buffers::replay::n_step::Ending;
use memsys::nn::parameters::Weights;
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use crate::envs::Environment;
use crate::error::Result;

/// An observation as it travels: where its shared part lies, and the environment's local numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// Which instrument.
    pub instrument: u16,
    /// Which step of it.
    pub t: u32,
    /// The environment's local row.
    pub local: Vec<f32>,
}

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
    /// Where there is no environment.
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
        self.environments.iter().map(seen).collect()
    }

    /// Environment steps taken so far.
    #[must_use]
    pub fn environment_steps(&self) -> u64 {
        self.environment_steps
    }

    /// One step of every environment, by the greedy actions of `weights` and chance.
    ///
    /// # Errors
    /// Where libtorch refuses a call.
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
            let to = seen(environment);
            let begins = step.ends_episode().then(|| {
                returns.push(std::mem::take(total));
                environment.reset(&mut self.rng);
                seen(environment)
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

fn seen<E: Environment>(environment: &E) -> Observation {
    let mut local = vec![0f32; environment.local_width()];
    environment.write_local(&mut local);
    Observation { instrument: environment.instrument(), t: environment.t(), local }
}

/// The observations of `seen`, a B × length × width tensor a view.
///
/// # Errors
/// Where libtorch refuses the memory.
pub fn observe(dataset: &Dataset, seen: &[Observation], device: Device) -> Result<Vec<Tensor>> {
    let mut tensors = Vec::with_capacity(dataset.views().len());
    for (index, view) in dataset.views().iter().enumerate() {
        let mut numbers = vec![0f32; seen.len() * view.n_numbers()];
        for (seen, out) in seen.iter().zip(numbers.chunks_exact_mut(view.n_numbers())) {
            match view.clock {
                Clock::Local => out.copy_from_slice(&seen.local),
                Clock::Decision | Clock::Slow => dataset.copy_window(index, seen.instrument, seen.t, out),
            }
        }
        let size = [seen.len() as i64, view.length as i64, view.width as i64];
        tensors.push(Tensor::f_from_slice(&numbers)?.f_view(size)?.f_to_device(device)?);
    }
    Ok(tensors)
}
