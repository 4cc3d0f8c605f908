//! The errors of this crate.

/// An error of an algorithm.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The memory system refused.
    #[error(transparent)]
    Memory(#[from] memsys::Error),
    /// An embedder refused.
    #[error(transparent)]
    Embedder(#[from] embedders::Error),
    /// The replay refused.
    #[error(transparent)]
    Replay(#[from] buffers::Error),
    /// tch refused a call.
    #[error(transparent)]
    Tch(#[from] tch::TchError),
    /// The loss is NaN or infinite.
    #[error("the loss of learner step {learner_step} is {loss}: learning has diverged")]
    Diverged {
        /// Learner steps that were taken before the one that failed.
        learner_step: u64,
        /// The loss.
        loss: f64,
    },
}

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
