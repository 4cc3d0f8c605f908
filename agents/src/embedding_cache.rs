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
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use buffers::frames::{Clock, Dataset, ObservationRef};
use embedders::{EMBEDDING_WIDTH, Fused, Mode, State};
use memsys::ledger::Owner;
use memsys::ledger::reclaimable::{self, Generation, Reclaimable, Registration};
use memsys::ledger::reservation::Reservation;
use memsys::nn::parameters::Weights;
use tch::{Device, Tensor};

use crate::error::Result;

/// Positions per block.
pub const BLOCK: usize = 64;

/// Numbers per block.
const BLOCK_NUMBERS: usize = BLOCK * EMBEDDING_WIDTH as usize;
/// Blocks that are allocated together, 1.1 MiB: the C library gives so large an allocation back to the system at once.
const SLAB_BLOCKS: usize = 32;

/// An instrument, and the number of a block of its positions.
type BlockKey = (u16, usize);

/// Embeddings by block of positions, for one set of weights. Its owner clears it when the weights change.
///
/// The cache reserves its bytes before it keeps them. Where the memory limit has no room it keeps nothing more, and it
/// gives everything back when the memory limit asks. Either costs time only: what is not kept is computed again, each
/// block once per call.
#[derive(Debug)]
pub struct EmbeddingCache {
    shared: Arc<Shared>,
    _registration: Registration,
}

#[derive(Debug, Default)]
struct Shared(Mutex<Kept>);

impl Reclaimable for Shared {
    fn name(&self) -> &'static str {
        "kept embeddings"
    }

    fn generation(&self) -> Generation {
        Generation::Caches
    }

    fn bytes(&self) -> u64 {
        self.0.try_lock().map_or(0, |kept| kept.held.bytes())
    }

    /// A block of 64 positions has 35 KiB and takes the preset `compact` about 20 ms.
    fn restore_nanos_per_byte(&self) -> f64 {
        500.0
    }

    fn last_used(&self) -> u64 {
        self.0.try_lock().map_or(u64::MAX, |kept| kept.last_used)
    }

    fn give_back(&self, _: u64) -> u64 {
        self.0.try_lock().map_or(0, |mut kept| kept.clear())
    }
}

#[derive(Debug)]
struct Kept {
    /// The index of each block in the slabs.
    places: BTreeMap<BlockKey, usize>,
    slabs: Vec<Vec<f32>>,
    /// Collections of the process before the last use.
    last_used: u64,
    held: Reservation,
}

impl Default for Kept {
    fn default() -> Self {
        let held = Reservation::of_heap(Owner::named("run/learner/embeddings"));
        Self { places: BTreeMap::new(), slabs: Vec::new(), last_used: 0, held }
    }
}

impl Kept {
    fn get(&mut self, key: BlockKey) -> Option<&[f32]> {
        self.last_used = reclaimable::n_collections();
        let place = *self.places.get(&key)?;
        Some(&self.slabs[place / SLAB_BLOCKS][place % SLAB_BLOCKS * BLOCK_NUMBERS..][..BLOCK_NUMBERS])
    }

    fn keep(&mut self, key: BlockKey, block: &[f32]) {
        let place = self.places.len();
        if place == self.slabs.len() * SLAB_BLOCKS {
            let slab_bytes = (SLAB_BLOCKS * BLOCK_NUMBERS * size_of::<f32>()) as u64;
            if !self.held.set_if_room(self.held.bytes() + slab_bytes) {
                return;
            }
            self.slabs.push(Vec::with_capacity(SLAB_BLOCKS * BLOCK_NUMBERS));
            self.held.set(self.held.bytes());
        }
        let slab = &mut self.slabs[place / SLAB_BLOCKS];
        slab.extend_from_slice(block);
        slab.resize((place % SLAB_BLOCKS + 1) * BLOCK_NUMBERS, 0.0);
        self.places.insert(key, place);
    }

    /// Forgets all blocks and returns the bytes that they took.
    fn clear(&mut self) -> u64 {
        let bytes = self.held.bytes();
        self.places.clear();
        self.slabs.clear();
        self.held.set(0);
        bytes
    }
}

impl Default for EmbeddingCache {
    fn default() -> Self {
        Self::new()
    }
}

impl EmbeddingCache {
    /// An empty cache, which the memory limit may empty at any time.
    #[must_use]
    pub fn new() -> Self {
        let shared = Arc::<Shared>::default();
        Self { _registration: reclaimable::register(shared.clone()), shared }
    }

    /// Forgets all embeddings.
    pub fn clear(&mut self) {
        self.kept().clear();
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut numbers = vec![0f32; observation_refs.len() * width];
        let mut rows: Vec<(BlockKey, usize)> = observation_refs
            .iter()
            .enumerate()
            .map(|(row, observation)| ((observation.instrument, observation.t as usize / BLOCK), row))
            .collect();
        rows.sort_unstable();
        for rows in rows.chunk_by(|a, b| a.0 == b.0) {
            let (key, _) = rows[0];
            let first = block_range(dataset, key.0, key.1).start;
            let mut copy = |block: &[f32]| {
                for (_, row) in rows {
                    let from = observation_refs[*row].t as usize - first;
                    numbers[row * width..][..width].copy_from_slice(&block[from * width..][..width]);
                }
            };
            // The lock is not held while a block is computed: its tensors may need the bytes that are kept here.
            if self.kept().get(key).map(&mut copy).is_none() {
                let block = embed_block(embedders, weights, dataset, key.0, key.1)?;
                copy(&block);
                self.kept().keep(key, &block);
            }
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
            dataset.copy_window(view, instrument, *t, out)?;
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
