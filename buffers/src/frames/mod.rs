//! Streams of rows, and windows over them.

mod dataset;
mod stream;

pub use dataset::{Clock, Place, Scene, Scenes, View};
pub use stream::{FrameStream, Restored, TierBytes};
