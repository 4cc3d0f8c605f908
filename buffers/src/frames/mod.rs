//! Streams of rows, and windows over them.

mod dataset;
mod stream;

pub use dataset::{Clock, ObservationRef, Instrument, Dataset, View};
pub use stream::{FrameStream, Restored, TierBytes};
