//! Streams of rows, windows over them, and references to observations.

mod dataset;
mod stream;

pub use dataset::{Clock, Dataset, Instrument, ObservationRef, View};
pub(crate) use stream::position;
pub use stream::{FrameStream, Restored, TierBytes};
