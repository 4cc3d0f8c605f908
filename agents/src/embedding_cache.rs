//! Market embeddings of neighbouring positions, computed together and cached.
//!
//! A market embedding depends only on the position and the weights. While the weights stay the same, one embedding
//! serves every transition and every account at its position. That holds for the target network between two updates
//! and for a network under evaluation.
//!
//! Positions are embedded in fixed blocks of 64, always whole and in the same order. So an embedding does not depend
//! on which positions were asked for before, and a cached one equals a computed one to the bit. Within a block the
//! structure view changes only at every sixth position; each of its rows is embedded once.

use std::collections::BTreeMap;
use std::ops::Range;

use buffers::frames::{Clock, Dataset, ObservationRef};
use embedders::{EMBEDDING_WIDTH, Fused, Mode, State};
use memsys::nn::parameters::Weights;
use tch::{Device, Tensor};

use crate::error::Result;

/// Positions per block.
pub const BLOCK: usize = 64;

/// Embeddings by block of positions, for one set of weights. Its owner clears it when the weights change.
#[derive(Debug, Default)]
pub struct EmbeddingCache {
    blocks: BTreeMap<(u16, usize), Vec<f32>>,
}

impl EmbeddingCache {
    /// Forgets all embeddings.
    pub fn clear(&mut self) {
        self.blocks.clear();
    }

    /// The embeddings at `observation_refs`, B × [`EMBEDDING_WIDTH`], in [`Mode::Evaluate`].
    ///
    /// # Errors
    /// Where libtorch refuses a call.
    pub fn embed(
        &mut self,
        embedders: &Fused,
        weights: &Weights,
        dataset: &Dataset,
        observation_refs: &[ObservationRef],
    ) -> Result<Tensor> {
        let width = EMBEDDING_WIDTH as usize;
        let mut numbers = Vec::with_capacity(observation_refs.len() * width);
        for observation in observation_refs {
            let t = observation.t as usize;
            let key = (observation.instrument, t / BLOCK);
            let block = match self.blocks.entry(key) {
                std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::btree_map::Entry::Vacant(entry) => {
                    entry.insert(embed_block(embedders, weights, dataset, key.0, key.1)?)
                }
            };
            let start = t - block_range(dataset, key.0, key.1).start;
            numbers.extend_from_slice(&block[start * width..][..width]);
        }
        let device = weights.flat().device();
        Ok(Tensor::f_from_slice(&numbers)?.f_view([-1, EMBEDDING_WIDTH])?.f_to_device(device)?)
    }
}

/// The embeddings of the positions `range` of an instrument, (length of range) × [`EMBEDDING_WIDTH`], on the CPU.
///
/// # Errors
/// Where libtorch refuses a call.
pub fn embed_range(
    embedders: &Fused,
    weights: &Weights,
    dataset: &Dataset,
    instrument: u16,
    range: Range<usize>,
) -> Result<Vec<f32>> {
    let width = EMBEDDING_WIDTH as usize;
    let mut numbers = Vec::with_capacity(range.len() * width);
    for block in range.start / BLOCK..range.end.div_ceil(BLOCK) {
        let rows = embed_block(embedders, weights, dataset, instrument, block)?;
        let covered = block_range(dataset, instrument, block);
        let (from, to) = (range.start.max(covered.start), range.end.min(covered.end));
        numbers.extend_from_slice(&rows[(from - covered.start) * width..(to - covered.start) * width]);
    }
    Ok(numbers)
}

/// The positions of a block at which every window is full.
fn block_range(dataset: &Dataset, instrument: u16, block: usize) -> Range<usize> {
    (block * BLOCK).max(dataset.first_step(instrument))
        ..((block + 1) * BLOCK).min(dataset.n_steps(instrument))
}

fn embed_block(
    embedders: &Fused,
    weights: &Weights,
    dataset: &Dataset,
    instrument: u16,
    block: usize,
) -> Result<Vec<f32>> {
    let _no_grad = tch::no_grad_guard();
    let device = weights.flat().device();
    let positions = block_range(dataset, instrument, block);
    // Each row of the slow view once, and for each position the index of the row that it sees.
    let mut slow_steps: Vec<u32> = Vec::new();
    let mut seen: Vec<i64> = Vec::with_capacity(positions.len());
    for t in positions.clone() {
        let t = t as u32;
        let row = dataset.slow_row(instrument, t);
        if slow_steps.last().is_none_or(|last| dataset.slow_row(instrument, *last) != row) {
            slow_steps.push(t);
        }
        seen.push(slow_steps.len() as i64 - 1);
    }
    let every_step: Vec<u32> = positions.map(|t| t as u32).collect();
    let window = |view: usize| -> Result<Tensor> {
        let shape = dataset.views()[view];
        let steps = if shape.clock == Clock::Slow { &slow_steps } else { &every_step };
        let mut numbers = vec![0f32; steps.len() * shape.n_numbers()];
        for (t, out) in steps.iter().zip(numbers.chunks_exact_mut(shape.n_numbers())) {
            dataset.copy_window(view, instrument, *t, out);
        }
        let size = [steps.len() as i64, shape.length as i64, shape.width as i64];
        Ok(Tensor::f_from_slice(&numbers)?.f_view(size)?.f_to_device(device)?)
    };
    let structure = embedders.structure.forward(weights, &window(0)?, Mode::Evaluate)?;
    let tactical = embedders.tactical.forward(weights, &window(1)?, Mode::Evaluate)?;
    let regime = embedders.regime.forward(weights, &window(2)?, Mode::Evaluate)?;
    let lvn = window(3)?;
    let lvn = embedders.lvn.forward(weights, &lvn.f_reshape([lvn.size()[0], -1])?, Mode::Evaluate)?;
    let seen = Tensor::f_from_slice(&seen)?.f_to_device(device)?;
    let structure = embedders::Embedding {
        mean: structure.mean.f_index_select(0, &seen)?,
        spread: structure.spread.f_index_select(0, &seen)?,
    };
    let state = State::join(&[&structure, &tactical, &regime, &lvn])?;
    let joined =
        Tensor::f_cat(&[&state.mean, &state.confidence], 1)?.f_to_device(Device::Cpu)?.f_contiguous()?;
    let mut rows = vec![0f32; every_step.len() * EMBEDDING_WIDTH as usize];
    let n_numbers = rows.len();
    joined.f_copy_data(&mut rows, n_numbers)?;
    Ok(rows)
}
