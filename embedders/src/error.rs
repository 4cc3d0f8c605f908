//! What can go wrong in this crate.

/// An error of an embedder.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A window of another shape than its network reads.
    #[error("a {view} window has the shape batch × {wanted:?}, not {found:?}")]
    Shape {
        /// The view.
        view: &'static str,
        /// The shape of one window.
        wanted: Vec<i64>,
        /// The shape of what was given, the batch included.
        found: Vec<i64>,
    },
    /// libtorch refused a call, for memory or for another reason.
    #[error(transparent)]
    Tch(#[from] tch::TchError),
    /// The memory system refused a call.
    #[error(transparent)]
    Memory(#[from] memsys::Error),
}

/// A result of an embedder.
pub type Result<T> = std::result::Result<T, Error>;
