//! What an agent observes: a reference into the frame streams, an environment's local row, and their tensors.

use buffers::frames::{Clock, Dataset, View};
use memsys::libtorch::exclusive_tensor_data;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::envs::Environment;
use crate::error::Result;

/// An observation, with its shared part as a reference into the frame streams.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// The instrument.
    pub instrument: u16,
    /// The step on its decision clock.
    pub t: u32,
    /// The environment's local row.
    pub local: Vec<f32>,
}

/// The current observation of `environment`.
pub fn observation_of<E: Environment>(environment: &E) -> Observation {
    let mut local = vec![0f32; environment.local_width()];
    environment.write_local(&mut local);
    Observation { instrument: environment.instrument(), t: environment.t(), local }
}

/// The windows and local rows of `observations` as tensors, one `B × length × width` tensor per view.
///
/// # Errors
/// Where libtorch refuses the memory, or a file that holds streams cannot be read.
pub fn observe(dataset: &Dataset, observations: &[Observation], device: Device) -> Result<Vec<Tensor>> {
    let mut tensors = Vec::with_capacity(dataset.views().len());
    for (index, view) in dataset.views().iter().enumerate() {
        let size = [observations.len() as i64, view.length as i64, view.width as i64];
        // The numbers are written in place, so that the ledger counts all of them.
        let mut tensor = Tensor::f_empty(size, (Kind::Float, Device::Cpu))?;
        let numbers = exclusive_tensor_data(&mut tensor, &size)?.expect("a fresh tensor is held once");
        for (observation, out) in observations.iter().zip(numbers.chunks_exact_mut(view.n_numbers())) {
            match view.clock {
                Clock::Local => out.copy_from_slice(&observation.local),
                Clock::Decision | Clock::Slow => {
                    dataset.copy_window(index, observation.instrument, observation.t, out)?;
                }
            }
        }
        tensors.push(tensor.f_to_device(device)?);
    }
    Ok(tensors)
}

/// The only view of a plain environment: its local row.
#[must_use]
pub fn plain_views(local_width: usize) -> Vec<View> {
    vec![View { name: "own", length: 1, width: local_width, stride: 1, clock: Clock::Local }]
}
