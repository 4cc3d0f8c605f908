//! Rows of Atari-like frames: 84 × 84 pixels of one byte; an observation is a stack of four.
//!
//! Sixteen environments show frames like those of such games: a still background of blocks that changes with the
//! episode, a bar that the actions move, and a ball that bounces. Each frame is stored once, the first frame of an
//! episode four times, so that a stack never reaches across an episode's border.

use std::sync::Arc;

use buffers::frames::{FrameStream, ObservationRef};
use buffers::replay::Transition;
use buffers::replay::sampler::{Drawn, Sampler};
use buffers::store::{ChunkCache, RowKind};
use memsys::libtorch::exclusive_tensor_data;
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;
use serde_json::json;
use tch::{Device, Kind, Tensor};

use crate::bench::replay::measured::{Bench, Measured};
use crate::bench::replay::work::{IMPORTANCE_SAMPLING_EXPONENT, N_ENVIRONMENTS, PRIORITY_EXPONENT};
use crate::error::Result;

const SIDE: usize = 84;
const PIXELS: usize = SIDE * SIDE;
const STACK: usize = 4;
const BATCH: usize = 256;
/// Steps of an episode.
const EPISODE: u32 = 900;
/// Bytes of decompressed frames that all streams keep together.
const CACHE_BYTES: u64 = 256 << 10;

/// One stream of frames per environment, and a sampler over their transitions.
struct Frames {
    streams: Vec<FrameStream>,
    cache: Arc<ChunkCache>,
    sampler: Sampler,
    td_errors: Vec<f32>,
    rng: Pcg64Mcg,
    drawn: Drawn,
    /// Stacks acted on and stacks bootstrapped from: `B × 4 × 84 × 84` bytes in tensors of f32.
    rooms: [Tensor; 2],
}

impl Frames {
    /// `capacity` transitions whose full chunks are all compressed.
    fn new(capacity: usize) -> Result<Self> {
        let mut rng = Pcg64Mcg::seed_from_u64(5);
        let cache = Arc::new(ChunkCache::new(CACHE_BYTES));
        let stream = FrameStream::typed(RowKind::U8, PIXELS).with_cache(Arc::clone(&cache));
        let mut streams = vec![stream; N_ENVIRONMENTS];
        let mut games: Vec<Game> = (0..N_ENVIRONMENTS).map(|_| Game::new(&mut rng)).collect();
        let mut sampler = Sampler::new(capacity, PRIORITY_EXPONENT);
        while sampler.transitions().len() < capacity {
            for ((environment, game), stream) in (0..).zip(&mut games).zip(&mut streams) {
                let local = game.step(&mut rng, stream);
                if sampler.transitions().len() == capacity {
                    break;
                }
                let from = ObservationRef { environment, local, ..ObservationRef::default() };
                let to_local = local + 1;
                sampler.insert(Transition {
                    from,
                    to_t: 0,
                    to_local,
                    action: 0,
                    reward: 0.0,
                    discount: 0.99,
                });
                stream.compress_before(usize::MAX);
            }
        }
        let td_errors: Vec<f32> = (0..1 << 16).map(|_| rng.random()).collect();
        let rooms = [(); 2].map(|()| Tensor::new());
        Ok(Self { streams, cache, sampler, td_errors, rng, drawn: Drawn::default(), rooms })
    }

    fn bytes(&self) -> u64 {
        let frames: u64 = self.streams.iter().map(FrameStream::bytes).sum();
        self.sampler.bytes() + frames + self.cache.bytes()
    }

    fn sample_and_update(&mut self) -> Result<()> {
        let Self { streams, sampler, td_errors, rng, drawn, rooms, .. } = self;
        sampler.draw(BATCH, IMPORTANCE_SAMPLING_EXPONENT, rng, drawn)?;
        let shape = [(BATCH * STACK * PIXELS / 4) as i64];
        for room in &mut *rooms {
            if exclusive_tensor_data(room, &shape)?.is_none() {
                *room = Tensor::f_empty(shape, (Kind::Float, Device::Cpu))?;
            }
        }
        let [now, next] = rooms;
        let numbers = |room| -> Result<_> {
            let numbers = exclusive_tensor_data(room, &shape)?.expect("a fresh tensor is held once");
            Ok(bytemuck::cast_slice_mut::<f32, u8>(numbers).chunks_exact_mut(STACK * PIXELS))
        };
        let observation_refs = drawn.observation_refs.iter().zip(&drawn.next_observation_refs);
        for ((observation, to), (stack, next_stack)) in
            observation_refs.zip(numbers(now)?.zip(numbers(next)?))
        {
            let stream = &streams[usize::from(observation.environment)];
            stream.copy_windows_bytes(
                [observation.local as usize, to.local as usize],
                STACK,
                1,
                [stack, next_stack],
            )?;
        }
        for room in [now, next] {
            let shape = [BATCH as i64, STACK as i64, SIDE as i64, SIDE as i64];
            std::hint::black_box(&room.f_view_dtype(Kind::Uint8)?.f_view(shape)?);
        }
        let first = rng.random_range(0..td_errors.len() - BATCH);
        sampler.update_priorities(&drawn.slots, &td_errors[first..first + BATCH])?;
        Ok(())
    }
}

pub(super) fn bytes(_: &Bench, capacity: usize) -> Result<Measured> {
    let mut frames = Frames::new(capacity)?;
    // What sampling keeps counts too.
    frames.sample_and_update()?;
    let value = frames.bytes() as f64 / capacity as f64;
    let tree = frames.sampler.bytes() as f64 / capacity as f64;
    let note = format!("transitions and tree {tree:.1} among them; episodes of {EPISODE} steps");
    Ok(Measured { value, note, details: json!({ "ring_and_tree": tree }) })
}

pub(super) fn samples(bench: &Bench, capacity: usize) -> Result<Measured> {
    let mut frames = Frames::new(capacity)?;
    let rate = bench.rate(|| frames.sample_and_update().map(|()| BATCH))?;
    let note = "stacks and next stacks as u8 tensors".to_owned();
    Ok(Measured { note, ..Measured::plain(rate) })
}

/// A game of a bar and a ball.
struct Game {
    background: Vec<u8>,
    bar: usize,
    ball: [i32; 2],
    speed: [i32; 2],
    n_steps: u32,
}

impl Game {
    fn new(rng: &mut Pcg64Mcg) -> Self {
        let mut background = vec![0u8; PIXELS];
        for row in 12..30 {
            for column in 0..SIDE {
                background[row * SIDE + column] = 60 + (row / 3 * 18) as u8;
            }
        }
        for _ in 0..40 {
            let (row, column) = (12 + 3 * rng.random_range(0..6), 6 * rng.random_range(0..SIDE / 6));
            (row..row + 3).for_each(|row| background[row * SIDE + column..][..6].fill(0));
        }
        let ball = [rng.random_range(2..SIDE as i32 - 4), rng.random_range(34..60)];
        Self { background, bar: rng.random_range(0..SIDE - 12), ball, speed: [2, 1], n_steps: 0 }
    }

    /// Shows the frame after a step, and gives the position of the frame that the step began from.
    fn step(&mut self, rng: &mut Pcg64Mcg, stream: &mut FrameStream) -> u32 {
        if self.n_steps == EPISODE {
            *self = Self::new(rng);
        }
        if self.n_steps == 0 {
            (0..STACK).for_each(|_| {
                stream.append_bytes(&self.frame());
            });
        }
        self.n_steps += 1;
        self.bar = (self.bar + rng.random_range(0..5)).saturating_sub(2).min(SIDE - 12);
        for (axis, low) in [(0, 2), (1, 32)] {
            self.ball[axis] += self.speed[axis];
            if self.ball[axis] <= low || self.ball[axis] >= SIDE as i32 - 6 {
                self.speed[axis] = -self.speed[axis];
                self.ball[axis] = self.ball[axis].clamp(low, SIDE as i32 - 6);
            }
        }
        let position = stream.append_bytes(&self.frame());
        position as u32 - 1
    }

    fn frame(&self) -> Vec<u8> {
        let mut frame = self.background.clone();
        (78..81).for_each(|row| frame[row * SIDE + self.bar..][..12].fill(200));
        let [column, row] = self.ball.map(|pixel| pixel as usize);
        (row..row + 2).for_each(|row| frame[row * SIDE + column..][..2].fill(236));
        frame
    }
}
