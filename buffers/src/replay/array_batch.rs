//! A batch in plain arrays, for programs without libtorch.

use crate::error::Result;
use crate::frames::View;
use crate::replay::batch::Batch;
use crate::replay::sampler::Drawn;

/// A batch of `B` transitions. Observations are one array of `B × length × width` numbers per view.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ArrayBatch {
    /// The observations in which the actions were taken, one array per view.
    pub observations: Vec<Vec<f32>>,
    /// The observations to bootstrap from, one array per view.
    pub next_observations: Vec<Vec<f32>>,
    /// The columns of the transitions.
    pub drawn: Drawn,
}

impl Batch for ArrayBatch {
    fn reset(&mut self, n_views: usize) -> Drawn {
        self.observations.resize_with(n_views, Vec::new);
        self.next_observations.resize_with(n_views, Vec::new);
        self.take_drawn()
    }

    fn keep_drawn(&mut self, drawn: Drawn) {
        self.drawn = drawn;
    }

    fn take_drawn(&mut self) -> Drawn {
        std::mem::take(&mut self.drawn)
    }

    fn windows_mut(&mut self, index: usize, view: &View, n: usize) -> Result<[&mut [f32]; 2]> {
        let arrays = [&mut self.observations[index], &mut self.next_observations[index]];
        Ok(arrays.map(|array| {
            array.resize(n * view.n_numbers(), 0.0);
            array.as_mut_slice()
        }))
    }

    fn put_columns(&mut self, drawn: Drawn) -> Result<()> {
        self.drawn = drawn;
        Ok(())
    }
}
