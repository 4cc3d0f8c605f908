//! What can go wrong in this crate.

/// An error of frame streams or replay.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// tch refused a call.
    #[error(transparent)]
    Tch(#[from] tch::TchError),
    /// A batch was asked of a replay that holds no transition.
    #[error("the replay holds no transition yet")]
    Empty,
    /// A saved state does not belong to this replay.
    #[error("the saved replay has {what} {found}, this run has {wanted}")]
    Mismatch {
        /// The quantity that differs.
        what: &'static str,
        /// What was saved.
        found: usize,
        /// What is needed.
        wanted: usize,
    },
}

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
