//! Layers that several networks share. A block holds parameter ids; its `forward` receives the weights.

mod attention;
mod dropout;
mod head;
mod linear;
mod lstm;
mod norm;
mod pooling;
mod scale;

pub use attention::SelfAttention;
pub use dropout::Dropout;
pub(crate) use head::spread;
pub use head::{Activation, GaussianHead};
pub use linear::Linear;
pub use lstm::{Direction, Lstm};
pub use norm::LayerNorm;
pub use pooling::TimePooling;
pub use scale::ScaleAttention;
