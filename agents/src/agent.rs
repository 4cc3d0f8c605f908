//! What a training program needs of an algorithm: a [`Policy`] that acts, and an [`Agent`] that learns.
//!
//! The two are apart because a policy has no weights of its own: the actor's thread, the evaluator and a program that
//! only evaluates hold one policy each with weights that lag, are the best so far, or come from a checkpoint. An
//! agent holds what learning needs beside that: gradients, moments, a target network.
//!
//! Both traits are object-safe, so that the program holds `Arc<dyn Policy>` and `Box<dyn Agent>` and names an
//! algorithm only where it reads its configuration. A new algorithm is a folder with an implementation of each.

use std::fmt::Debug;
use std::ops::Range;

use buffers::frames::Dataset;
use buffers::replay::TensorBatch;
pub use embedders::market::fused::ActivationBytes;
use memsys::nn::parameters::{Layout, Weights};
use tch::Tensor;

use crate::error::Result;
use crate::update::UpdateCounters;

/// Chooses actions by weights that it is given at each call.
pub trait Policy: Debug + Send + Sync {
    /// The parameters that its weights have.
    fn layout(&self) -> &Layout;

    /// The greedy action of each of B observations: one B × length × width tensor per view, the local row last.
    ///
    /// # Errors
    /// Where libtorch refuses a call.
    fn greedy(&self, weights: &Weights, observations: &[Tensor]) -> Result<Vec<u8>>;

    /// Numbers in the embedding of a position; 0 where the policy sees nothing but local rows.
    fn embedding_width(&self) -> usize;

    /// The embeddings of consecutive positions of an instrument, one after another. An evaluation embeds each
    /// position once and then acts by [`Policy::greedy_of_embedding`].
    ///
    /// # Errors
    /// Where libtorch refuses a call.
    fn embed_range(
        &self,
        weights: &Weights,
        dataset: &Dataset,
        instrument: u16,
        range: Range<usize>,
    ) -> Result<Vec<f32>>;

    /// The greedy action of each of B embeddings (B × embedding width) with its local row (B × local width), and the
    /// numbers that it was chosen by.
    ///
    /// # Errors
    /// Where libtorch refuses a call.
    fn greedy_of_embedding(&self, weights: &Weights, embedding: &Tensor, local: &Tensor) -> Result<Greedy>;

    /// Estimated bytes of activations per observation, for a memory plan that runs nothing.
    fn activation_bytes(&self) -> ActivationBytes;
}

/// Greedy actions, and what they were chosen by.
#[derive(Debug, Clone, PartialEq)]
pub struct Greedy {
    /// One action per observation.
    pub actions: Vec<u8>,
    /// The value of every action, one row per observation. Empty where the policy gives actions no values.
    pub action_values: Vec<f32>,
}

/// What a learner step did.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The TD error of each transition, in the batch's order: what it is prioritized by.
    pub td_errors: Vec<f32>,
    /// The loss of the batch.
    pub loss: f64,
    /// Norm of the gradient before the clip.
    pub gradient_norm: f64,
}

/// Learns from batches.
pub trait Agent: Debug + Send {
    /// The weights that learn and act.
    fn online(&self) -> &Weights;

    /// Learner steps taken.
    fn n_steps(&self) -> u64;

    /// Learns from a batch, at most `micro_batch` transitions at a time.
    ///
    /// # Errors
    /// [`Error::Diverged`](crate::Error::Diverged), or where libtorch refuses a call; the agent is then as it was.
    fn step(&mut self, batch: &TensorBatch, micro_batch: usize) -> Result<Outcome>;

    /// Allocates all that [`Agent::step`] does and learns nothing.
    ///
    /// # Errors
    /// As [`Agent::step`].
    fn dry_run(&mut self, batch: &TensorBatch, micro_batch: usize) -> Result<()>;

    /// Computes from here on without caches that grow with the positions seen, so that each step costs the same.
    fn disable_caches(&mut self) {}

    /// The flat tensors that a checkpoint keeps, by name; `online` is among them. Whoever restores a checkpoint writes the
    /// saved numbers into them, one after another, and then calls [`Agent::resume_at`].
    fn tensors(&self) -> Vec<(&'static str, &Tensor)>;

    /// The counters that a checkpoint keeps.
    fn counters(&self) -> UpdateCounters;

    /// Resumes at `counters`, which [`Agent::counters`] gave, from the numbers that now stand in [`Agent::tensors`]. What
    /// was computed from the numbers before is forgotten.
    fn resume_at(&mut self, counters: UpdateCounters);
}
