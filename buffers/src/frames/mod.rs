//! Streams of rows, and windows over them.

mod dataset;
mod stream;

pub use dataset::{Clock, Dataset, Instrument, ObservationRef, View};
pub use stream::{FrameStream, Restored, TierBytes};
