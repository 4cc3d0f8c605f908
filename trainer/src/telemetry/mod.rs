//! What a run reports while it goes on: rows of metrics, TensorBoard events, a progress bar.

pub mod metrics;
pub mod progress;
pub mod tensorboard;
