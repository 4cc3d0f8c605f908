//! What an observation is: a place, and the views that are windows at that place.

use serde::{Deserialize, Serialize};

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::frames::stream::{FrameStream, TierBytes};
use crate::store::{ChunkCache, ChunkWriter, Durability, StoreOptions, Tier};

/// Bytes of decompressed chunks that the streams of all instruments keep together.
const CACHE_BYTES: u64 = 16 << 20;

/// Which of a place's numbers says where a view's window ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// The step: one row for each step of the instrument.
    Decision,
    /// The row of a slower clock that was visible at the step ([`Instrument::slow_row`]).
    Slow,
    /// The environment's local position, in its local stream.
    Local,
}

/// One part of an observation: a window of `length` rows, `stride` apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// What it shows.
    pub name: &'static str,
    /// Rows of the window.
    pub length: usize,
    /// Numbers in a row.
    pub width: usize,
    /// Rows from one row of the window to the next.
    pub stride: usize,
    /// Where it ends.
    pub clock: Clock,
}

impl View {
    /// Numbers of the window.
    #[must_use]
    pub fn n_numbers(&self) -> usize {
        self.length * self.width
    }
}

/// Where an observation lies. Two steps of an environment differ in it; all rows are stored once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ObservationRef {
    /// Which instrument.
    pub instrument: u16,
    /// Which environment saw it.
    pub environment: u16,
    /// Step of the instrument.
    pub t: u32,
    /// Row of the environment's local stream.
    pub local: u32,
}

/// The streams of one instrument.
#[derive(Debug, Clone, PartialEq)]
pub struct Instrument {
    /// One for each view of the instruments, in order; views with [`Clock::Local`] have an empty one.
    pub streams: Vec<FrameStream>,
    /// For each step the newest row of the slow clock that was visible.
    pub slow_row: Vec<u32>,
    /// The first step at which every window is full.
    pub first_step: usize,
}

/// All instruments and the views over them: what environments, actors and the replay share.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Dataset {
    views: Vec<View>,
    dataset: Vec<Instrument>,
}

impl Dataset {
    /// Puts instruments under views.
    ///
    /// # Panics
    /// Where an instrument's streams do not fit the views.
    #[must_use]
    pub fn new(views: Vec<View>, dataset: Vec<Instrument>) -> Self {
        for instrument in &dataset {
            assert_eq!(instrument.streams.len(), views.len(), "one stream a view");
            for (stream, view) in instrument.streams.iter().zip(&views) {
                assert_eq!(stream.width(), view.width, "{}: a stream of another width", view.name);
            }
        }
        Self { views, dataset }
    }

    /// The views, in the order of an observation's tensors.
    #[must_use]
    pub fn views(&self) -> &[View] {
        &self.views
    }

    /// Rows of an environment's local stream that an observation shows at most, counted back from its local row.
    #[must_use]
    pub fn local_reach(&self) -> usize {
        let local = self.views.iter().filter(|view| view.clock == Clock::Local);
        local.map(|view| (view.length - 1) * view.stride + 1).max().unwrap_or(0)
    }

    /// How many instruments there are.
    #[must_use]
    pub fn n_instruments(&self) -> usize {
        self.dataset.len()
    }

    /// Steps of an instrument.
    #[must_use]
    pub fn n_steps(&self, instrument: u16) -> usize {
        self.dataset[instrument as usize].slow_row.len()
    }

    /// The first step of an instrument at which every window is full.
    #[must_use]
    pub fn first_step(&self, instrument: u16) -> usize {
        self.dataset[instrument as usize].first_step
    }

    /// The row of the slow clock visible at a step.
    #[must_use]
    pub fn slow_row(&self, instrument: u16, t: u32) -> u32 {
        self.dataset[instrument as usize].slow_row[t as usize]
    }

    /// The stream of a view in an instrument.
    #[must_use]
    pub fn stream(&self, view: usize, instrument: u16) -> &FrameStream {
        &self.dataset[instrument as usize].streams[view]
    }

    /// The streams of a view, an instrument each.
    pub(crate) fn streams_of(&self, view: usize) -> impl Iterator<Item = &FrameStream> {
        self.dataset.iter().map(move |instrument| &instrument.streams[view])
    }

    /// Bytes of all streams and maps.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let of = |instrument: &Instrument| {
            instrument.streams.iter().map(FrameStream::bytes).sum::<u64>()
                + instrument.slow_row.capacity() as u64 * 4
        };
        self.dataset.iter().map(of).sum()
    }

    /// Bytes of the streams by tier.
    #[must_use]
    pub fn tier_bytes(&self) -> TierBytes {
        let streams =
            self.dataset.iter().flat_map(|instrument| &instrument.streams).map(FrameStream::tier_bytes);
        streams.fold(TierBytes::default(), |sum, of| TierBytes {
            hot: sum.hot + of.hot,
            compressed: sum.compressed + of.compressed,
            mapped: sum.mapped + of.mapped,
        })
    }

    /// Moves the streams' full chunks down, the largest stream's first, until they take no more memory than the
    /// options say. To be called once, before the instruments are shared. A file is made anew: streams are computed from
    /// the data at each start.
    ///
    /// # Errors
    /// [`Error::NoFile`], or where the file cannot be written.
    pub fn enforce_budget(&mut self, options: &StoreOptions) -> Result<()> {
        let mut streams: Vec<&mut FrameStream> =
            self.dataset.iter_mut().flat_map(|instrument| &mut instrument.streams).collect();
        let mut held: u64 = streams.iter().map(|stream| stream.bytes()).sum();
        if held <= options.begin_bytes() {
            return Ok(());
        }
        let cache = Arc::new(ChunkCache::new(CACHE_BYTES));
        let mut writer = match options.tier {
            Tier::Mapped => Some(ChunkWriter::create(options.file.as_deref().ok_or(Error::NoFile)?)?),
            Tier::Hot | Tier::Compressed => None,
        };
        let mut order: Vec<usize> = (0..streams.len()).collect();
        order.sort_by_key(|index| std::cmp::Reverse(streams[*index].bytes()));
        for index in order {
            if held <= options.begin_bytes() {
                break;
            }
            let stream = &mut *streams[index];
            let before = stream.bytes();
            stream.share_cache(Arc::clone(&cache));
            match &mut writer {
                None => {
                    stream.compress_before(usize::MAX);
                }
                Some(writer) => {
                    stream.map_before(usize::MAX, writer, index as u32, 0)?;
                }
            }
            held = held - before + stream.bytes();
        }
        writer.map_or(Ok(()), |mut writer| {
            writer.file().limit_window(options.window_bytes);
            writer.commit(Durability::Process)
        })
    }

    /// Copies the window of view `view` at a step into `out` (`length × width` numbers).
    ///
    /// # Panics
    /// Where the view is the environment's own, or the window reaches over the stream's beginning.
    pub fn copy_window(&self, view: usize, instrument: u16, t: u32, out: &mut [f32]) {
        let View { length, stride, clock, .. } = self.views[view];
        let instrument = &self.dataset[instrument as usize];
        let end = match clock {
            Clock::Decision => t,
            Clock::Slow => instrument.slow_row[t as usize],
            Clock::Local => unreachable!("an environment's local rows lie in no instrument"),
        };
        instrument.streams[view].copy_window(end as usize, length, stride, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_view_ends_at_the_row_that_was_visible() {
        let views = vec![View { name: "slow", length: 2, width: 1, stride: 1, clock: Clock::Slow }];
        let mut stream = FrameStream::new(1);
        (0..4).for_each(|i| {
            stream.append(&[i as f32]);
        });
        let dataset = Dataset::new(
            views,
            vec![Instrument { streams: vec![stream], slow_row: vec![1, 1, 2, 2, 3], first_step: 0 }],
        );
        let mut out = [0f32; 2];
        dataset.copy_window(0, 0, 3, &mut out);
        assert_eq!(out, [1.0, 2.0]);
        assert_eq!(dataset.n_steps(0), 5);
    }
}
