//! Sums since the last metrics row.
//!
//! A checkpoint holds them, so that the first row after a resume is the row of the run that never stopped.

use std::time::{Duration, Instant};

use agents::Outcome;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::run::actor_loop::VectorStep;

/// Sums since the last metrics row.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct MetricsWindow {
    /// Environment steps from which speed is measured.
    pub(super) environment_steps: u64,
    /// Rewards that the agent learns from.
    pub(super) reward: f64,
    /// Environment steps whose rewards were added.
    pub(super) n_steps: u64,
    /// Returns of the episodes that ended.
    pub(super) returns: Vec<f64>,
    /// Losses of the learner steps.
    pub(super) loss: f64,
    /// Mean absolute TD errors of the learner steps.
    pub(super) td_error: f64,
    /// Norms of the gradients before the clip.
    pub(super) gradient_norm: f64,
    /// Learner steps.
    pub(super) n_learned: u64,
    /// The latest probability of a random action.
    pub(super) epsilon: f64,
    #[serde(serialize_with = "save_elapsed", deserialize_with = "restore_elapsed")]
    since: Instant,
}

impl MetricsWindow {
    /// An empty window that starts at an environment step.
    pub(super) fn new(environment_steps: u64) -> Self {
        Self {
            environment_steps,
            reward: 0.0,
            n_steps: 0,
            returns: Vec::new(),
            loss: 0.0,
            td_error: 0.0,
            gradient_norm: 0.0,
            n_learned: 0,
            epsilon: 1.0,
            since: Instant::now(),
        }
    }

    /// Measures speed from this environment step and from now on.
    pub(super) fn restart_clock(&mut self, environment_steps: u64) {
        (self.environment_steps, self.since) = (environment_steps, Instant::now());
    }

    /// Seconds that the window lasts, without those between a checkpoint and a resume.
    pub(super) fn seconds(&self) -> f64 {
        self.since.elapsed().as_secs_f64()
    }

    pub(super) fn add_vector_step(&mut self, vector_step: &VectorStep) {
        self.reward += vector_step.steps.iter().map(|step| step.reward).sum::<f64>();
        self.n_steps += vector_step.steps.len() as u64;
        self.returns.extend_from_slice(&vector_step.returns);
        self.epsilon = vector_step.epsilon;
    }

    pub(super) fn add_outcome(&mut self, outcome: &Outcome) {
        let errors = outcome.td_errors.iter().map(|error| f64::from(error.abs()));
        self.td_error += errors.sum::<f64>() / outcome.td_errors.len() as f64;
        self.loss += outcome.loss;
        self.gradient_norm += outcome.gradient_norm;
        self.n_learned += 1;
    }
}

fn save_elapsed<S: Serializer>(since: &Instant, serializer: S) -> Result<S::Ok, S::Error> {
    since.elapsed().serialize(serializer)
}

fn restore_elapsed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Instant, D::Error> {
    let (elapsed, now) = (Duration::deserialize(deserializer)?, Instant::now());
    // A clock that began later than the window cannot show its beginning.
    Ok(now.checked_sub(elapsed).unwrap_or(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restored_window_has_the_sums_and_the_seconds_of_the_saved_one() {
        let mut window = MetricsWindow::new(700);
        let outcome = Outcome { td_errors: vec![0.1, -0.3], loss: 0.1 + 0.2, gradient_norm: 1.0 / 3.0 };
        window.add_outcome(&outcome);
        window.since = Instant::now().checked_sub(Duration::from_secs(90)).unwrap();
        let saved = postcard::to_stdvec(&window).unwrap();
        let mut restored: MetricsWindow = postcard::from_bytes(&saved).unwrap();
        assert!(restored.seconds() >= 90.0);
        restored.since = window.since;
        assert_eq!(format!("{restored:?}"), format!("{window:?}"));
    }
}
