//! The errors of this crate.

/// An error of an embedder.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A window does not have the shape that its network reads.
    #[error("a {view} window has the shape batch × {wanted:?}, not {found:?}")]
    Shape {
        /// The view's name.
        view: &'static str,
        /// The shape of one window.
        wanted: Vec<i64>,
        /// The shape of the given tensor, the batch dimension included.
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
