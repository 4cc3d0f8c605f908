//! A batch of transitions in tensors, which are filled again and again.

use memsys::libtorch::exclusive_tensor_data;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tch::{Device, Kind, Tensor};

use crate::error::Result;
use crate::frames::{ObservationRef, View};
use crate::replay::batch::Batch;
use crate::replay::sampler::Drawn;
use crate::replay::transitions::Slot;

/// A batch of `B` transitions. Observations are one `B × length × width` f32 tensor per view.
#[derive(Debug)]
pub struct TensorBatch {
    /// The observations in which the actions were taken, one tensor per view.
    pub observations: Vec<Tensor>,
    /// The observations to bootstrap from, one tensor per view.
    pub next_observations: Vec<Tensor>,
    /// References to the observations.
    pub observation_refs: Vec<ObservationRef>,
    /// References to the observations to bootstrap from.
    pub next_observation_refs: Vec<ObservationRef>,
    /// Actions, i64, `B`.
    pub actions: Tensor,
    /// n-step rewards, f32, `B`.
    pub rewards: Tensor,
    /// γⁿ (1 − terminated), f32, `B`.
    pub discounts: Tensor,
    /// Importance weights, f32 in (0, 1], `B`.
    pub weights: Tensor,
    /// For [`Replay::update_priorities`](crate::replay::Replay::update_priorities).
    pub slots: Vec<Slot>,
    /// The storage that `actions` is a view of. Holding it shows whether anything else holds the actions.
    action_bytes: Tensor,
    /// The columns that are drawn into, kept from batch to batch.
    drawn: Drawn,
}

impl Default for TensorBatch {
    /// An empty batch to sample into.
    fn default() -> Self {
        Self {
            observations: Vec::new(),
            next_observations: Vec::new(),
            observation_refs: Vec::new(),
            next_observation_refs: Vec::new(),
            actions: Tensor::new(),
            rewards: Tensor::new(),
            discounts: Tensor::new(),
            weights: Tensor::new(),
            slots: Vec::new(),
            action_bytes: Tensor::new(),
            drawn: Drawn::default(),
        }
    }
}

impl Batch for TensorBatch {
    fn reset(&mut self, n_views: usize) -> Drawn {
        self.observations.truncate(n_views);
        self.next_observations.truncate(n_views);
        Drawn {
            slots: std::mem::take(&mut self.slots),
            observation_refs: std::mem::take(&mut self.observation_refs),
            next_observation_refs: std::mem::take(&mut self.next_observation_refs),
            ..std::mem::take(&mut self.drawn)
        }
    }

    fn keep_drawn(&mut self, drawn: Drawn) {
        self.drawn = drawn;
    }

    fn take_drawn(&mut self) -> Drawn {
        std::mem::take(&mut self.drawn)
    }

    fn windows_mut(&mut self, index: usize, view: &View, n: usize) -> Result<[&mut [f32]; 2]> {
        let shape = [n as i64, view.length as i64, view.width as i64];
        for tensors in [&mut self.observations, &mut self.next_observations] {
            if tensors.len() <= index {
                tensors.resize_with(index + 1, Tensor::new);
            }
            make_writable(&mut tensors[index], &shape)?;
        }
        Ok([
            numbers_of(&mut self.observations[index], &shape)?,
            numbers_of(&mut self.next_observations[index], &shape)?,
        ])
    }

    fn put_columns(&mut self, mut drawn: Drawn) -> Result<()> {
        if let Err(error) = self.copy_columns(&drawn) {
            self.drawn = drawn;
            return Err(error);
        }
        self.slots = std::mem::take(&mut drawn.slots);
        self.observation_refs = std::mem::take(&mut drawn.observation_refs);
        self.next_observation_refs = std::mem::take(&mut drawn.next_observation_refs);
        self.drawn = drawn;
        Ok(())
    }
}

impl TensorBatch {
    fn copy_columns(&mut self, drawn: &Drawn) -> Result<()> {
        // The old view is dropped first, or it would count as another holder of the storage.
        self.actions = Tensor::new();
        let n_halves = 2 * drawn.actions.len() as i64;
        let halves: &[f32] = bytemuck::cast_slice(&drawn.actions);
        put(&mut self.action_bytes, &[n_halves], halves)?;
        self.actions = self.action_bytes.f_view_dtype(Kind::Int64)?;
        for (tensor, column) in [
            (&mut self.rewards, &drawn.rewards),
            (&mut self.discounts, &drawn.discounts),
            (&mut self.weights, &drawn.weights),
        ] {
            put(tensor, &[column.len() as i64], column)?;
        }
        Ok(())
    }
}

fn put(tensor: &mut Tensor, shape: &[i64], numbers: &[f32]) -> Result<()> {
    make_writable(tensor, shape)?;
    numbers_of(tensor, shape)?.copy_from_slice(numbers);
    Ok(())
}

/// Replaces a tensor that has another shape, or that something else holds, by a new one.
fn make_writable(tensor: &mut Tensor, shape: &[i64]) -> Result<()> {
    if exclusive_tensor_data(tensor, shape)?.is_none() {
        *tensor = Tensor::f_empty(shape, (Kind::Float, Device::Cpu))?;
    }
    Ok(())
}

fn numbers_of<'a>(tensor: &'a mut Tensor, shape: &[i64]) -> Result<&'a mut [f32]> {
    Ok(exclusive_tensor_data(tensor, shape)?.expect("a fresh tensor is held once"))
}

/// A batch as part of a saved state.
#[derive(Serialize, Deserialize)]
struct BatchSnapshot {
    views: [Vec<([i64; 3], Vec<f32>)>; 2],
    observation_refs: [Vec<ObservationRef>; 2],
    actions: Vec<i64>,
    rewards: Vec<f32>,
    discounts: Vec<f32>,
    weights: Vec<f32>,
    slots: Vec<Slot>,
}

impl Serialize for TensorBatch {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let views = |tensors: &[Tensor]| {
            let view = |tensor: &Tensor| -> std::result::Result<_, tch::TchError> {
                let (n, length, width) = tensor.size3()?;
                Ok(([n, length, width], Vec::try_from(tensor.f_flatten(0, -1)?)?))
            };
            tensors.iter().map(view).collect::<std::result::Result<Vec<_>, _>>()
        };
        let saved = || -> std::result::Result<BatchSnapshot, tch::TchError> {
            Ok(BatchSnapshot {
                views: [views(&self.observations)?, views(&self.next_observations)?],
                observation_refs: [self.observation_refs.clone(), self.next_observation_refs.clone()],
                actions: Vec::try_from(&self.actions)?,
                rewards: Vec::try_from(&self.rewards)?,
                discounts: Vec::try_from(&self.discounts)?,
                weights: Vec::try_from(&self.weights)?,
                slots: self.slots.clone(),
            })
        };
        saved().map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for TensorBatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let BatchSnapshot { views, observation_refs, actions, rewards, discounts, weights, slots } =
            BatchSnapshot::deserialize(deserializer)?;
        let restore = || -> Result<Self> {
            let mut batch = Self::default();
            for (views, tensors) in views.iter().zip([&mut batch.observations, &mut batch.next_observations])
            {
                for (shape, numbers) in views {
                    tensors.push(Tensor::f_from_slice(numbers)?.f_view(*shape)?);
                }
            }
            let [observation_refs, next_observation_refs] = observation_refs;
            let drawn = Drawn {
                slots,
                observation_refs,
                next_observation_refs,
                actions,
                rewards,
                discounts,
                weights,
                ..Drawn::default()
            };
            batch.put_columns(drawn)?;
            Ok(batch)
        };
        restore().map_err(serde::de::Error::custom)
    }
}
