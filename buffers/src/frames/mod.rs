//! Streams of rows, and windows over them.

mod saved;
mod scenes;
mod stream;

pub use scenes::{Clock, Place, Scene, Scenes, View};
pub use stream::{FrameStream, Restored, TierBytes};
