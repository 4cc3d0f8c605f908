//! Frame streams and replay: each feature row is stored once, and a transition holds positions in the streams.
//!
//! ```text
//! FrameStream   rows of one width, appended once          (a market's feature rows; an environment's local rows)
//!      ▲
//!      │ windows (stream, end, length, stride)
//! Dataset       what all environments share: the streams of each instrument
//!      ▲
//!      │ ObservationRef (instrument, environment, t, local) = an observation in 12 bytes
//! Replay        transitions, priorities, and the environments' local streams ──sample──> Batch
//! ```
//!
//! Reading order: [`frames`], then [`store`] (chunks of rows, and the file that outlives the process), then [`replay`].
//! The crate knows nothing of markets or of learning.

pub mod error;
pub mod frames;
pub mod replay;
pub mod store;

pub use error::{Error, Result};
