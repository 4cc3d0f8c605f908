//! Embeddings of neighbouring positions, computed together and kept.
//!
//! A market embedding depends on the position and the weights alone, so one evaluation serves every transition
//! and every account at that position for as long as the weights stand still: the target network between two
//! updates, or a network under evaluation. Positions are embedded in fixed blocks of 64, always whole and
//! always in the same order, so that a number does not depend on which positions were asked for before it: what
//! was kept and what is computed again are the same to the bit. Within a block the structure view changes only
//! every sixth position and is embedded once for each of its rows.

use std::collections::BTreeMap;
use std::ops::Range;

use buffers::frames::{Clock, Place, Scenes};
use embedders::{EMBEDDING_WIDTH, Fused, Mode, State};
use memsys::nn::parameters::Weights;
use tch::{Device, Tensor};

use crate::error::Result;

/// Positions of a block.
pub const BLOCK: usize = 64;

/// Embeddings by block of positions, for one set of weights.
#[derive(Debug, Default)]
pub struct EmbeddingCache {
    blocks: BTreeMap<(u16, usize), Vec<f32>>,
}

impl EmbeddingCache {
    /// Forgets everything: the weights have changed.
    pub fn clear(&mut self) {
        self.blocks.clear();
    }

    /// The embeddings at `places`, B × [`EMBEDDING_WIDTH`], in [`Mode::Evaluate`].
    ///
    /// # Errors
    /// Where libtorch refuses a call.
    pub fn embed(
        &mut self,
        embedders: &Fused,
        weights: &Weights,
        scenes: &Scenes,
        places: &[Place],
    ) -> Result<Tensor> {
        let width = EMBEDDING_WIDTH as usize;
        let mut numbers = Vec::with_capacity(places.len() * width);
        for place in places {
            let base = place.base as usize;
            let key = (place.scene, base / BLOCK);
            let block = match self.blocks.entry(key) {
                std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::btree_map::Entry::Vacant(entry) => {
                    entry.insert(embed_block(embedders, weights, scenes, key.0, key.1)?)
                }
            };
            let start = base - block_range(scenes, key.0, key.1).start;
            numbers.extend_from_slice(&block[start * width..][..width]);
        }
        let device = weights.flat().device();
        Ok(Tensor::f_from_slice(&numbers)?.f_view([-1, EMBEDDING_WIDTH])?.f_to_device(device)?)
    }
}

/// The embeddings of the positions `range` of a scene, (length of range) × [`EMBEDDING_WIDTH`], on the CPU.
///
/// # Errors
/// Where libtorch refuses a call.
pub fn embed_range(
    embedders: &Fused,
    weights: &Weights,
    scenes: &Scenes,
    scene: u16,
    range: Range<usize>,
) -> Result<Vec<f32>> {
    let width = EMBEDDING_WIDTH as usize;
    let mut numbers = Vec::with_capacity(range.len() * width);
    for block in range.start / BLOCK..range.end.div_ceil(BLOCK) {
        let rows = embed_block(embedders, weights, scenes, scene, block)?;
        let covered = block_range(scenes, scene, block);
        let (from, to) = (range.start.max(covered.start), range.end.min(covered.end));
        numbers.extend_from_slice(&rows[(from - covered.start) * width..(to - covered.start) * width]);
    }
    Ok(numbers)
}

/// The positions of a block: those among its [`BLOCK`] whose windows are full.
fn block_range(scenes: &Scenes, scene: u16, block: usize) -> Range<usize> {
    (block * BLOCK).max(scenes.first_base(scene))..((block + 1) * BLOCK).min(scenes.n_base(scene))
}

fn embed_block(
    embedders: &Fused,
    weights: &Weights,
    scenes: &Scenes,
    scene: u16,
    block: usize,
) -> Result<Vec<f32>> {
    let _no_grad = tch::no_grad_guard();
    let device = weights.flat().device();
    let positions = block_range(scenes, scene, block);
    // A slow view's rows, each once, and for each position which of them it sees.
    let mut slow_bases: Vec<u32> = Vec::new();
    let mut seen: Vec<i64> = Vec::with_capacity(positions.len());
    for base in positions.clone() {
        let base = base as u32;
        let row = scenes.slow_row(scene, base);
        if slow_bases.last().is_none_or(|last| scenes.slow_row(scene, *last) != row) {
            slow_bases.push(base);
        }
        seen.push(slow_bases.len() as i64 - 1);
    }
    let every_base: Vec<u32> = positions.map(|base| base as u32).collect();
    let window = |view: usize| -> Result<Tensor> {
        let shape = scenes.views()[view];
        let bases = if shape.clock == Clock::Slow { &slow_bases } else { &every_base };
        let mut numbers = vec![0f32; bases.len() * shape.n_numbers()];
        for (base, out) in bases.iter().zip(numbers.chunks_exact_mut(shape.n_numbers())) {
            scenes.copy_window(view, scene, *base, out);
        }
        let size = [bases.len() as i64, shape.length as i64, shape.width as i64];
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
    let mut rows = vec![0f32; every_base.len() * EMBEDDING_WIDTH as usize];
    let n_numbers = rows.len();
    joined.f_copy_data(&mut rows, n_numbers)?;
    Ok(rows)
}
