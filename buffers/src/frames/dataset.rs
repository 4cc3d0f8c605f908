//! An observation is a reference and the views: each view is a window over a stream, and the reference says where the
//! windows end.

use serde::{Deserialize, Serialize};

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::frames::stream::{FrameStream, TierBytes};
use crate::store::{ChunkCache, ChunkWriter, Durability, StoreOptions, Tier};

/// Bytes of decompressed chunks that the streams of all instruments cache together.
const CACHE_BYTES: u64 = 16 << 20;

/// Which clock says where a view's window ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// The decision clock: the window ends with row `t` of the instrument.
    Decision,
    /// A slower clock: the window ends with the row that was visible at `t` ([`Instrument::slow_row`]).
    Slow,
    /// The environment's own steps: the window ends with row `local` of the environment's local stream.
    Local,
}

/// One part of an observation: a window of `length` rows, `stride` apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// The name, for messages.
    pub name: &'static str,
    /// Rows of the window.
    pub length: usize,
    /// Numbers per row.
    pub width: usize,
    /// Distance between neighbouring rows of the window, in rows of the stream.
    pub stride: usize,
    /// The clock that says where the window ends.
    pub clock: Clock,
}

impl View {
    /// Numbers of the window.
    #[must_use]
    pub fn n_numbers(&self) -> usize {
        self.length * self.width
    }
}

/// Where the windows of an observation end. The rows themselves are stored once, in the streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ObservationRef {
    /// The instrument's number in the [`Dataset`].
    pub instrument: u16,
    /// The number of the environment that made the observation.
    pub environment: u16,
    /// Step on the decision clock.
    pub t: u32,
    /// Row of the environment's local stream.
    pub local: u32,
}

/// The streams of one instrument.
#[derive(Debug, Clone, PartialEq)]
pub struct Instrument {
    /// One stream per view, in the views' order. The stream of a view with [`Clock::Local`] is empty.
    pub streams: Vec<FrameStream>,
    /// For each step the newest row of the slow clock that was visible.
    pub slow_row: Vec<u32>,
    /// The first step at which every window is full.
    pub first_step: usize,
}

/// All instruments and the views over them. Environments, actors and the replay share it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Dataset {
    views: Vec<View>,
    instruments: Vec<Instrument>,
}

impl Dataset {
    /// A dataset of these instruments under these views.
    ///
    /// # Panics
    /// If the streams of an instrument do not fit the views.
    #[must_use]
    pub fn new(views: Vec<View>, instruments: Vec<Instrument>) -> Self {
        for instrument in &instruments {
            assert_eq!(instrument.streams.len(), views.len(), "one stream per view");
            for (stream, view) in instrument.streams.iter().zip(&views) {
                assert_eq!(stream.width(), view.width, "{}: a stream of another width", view.name);
            }
        }
        Self { views, instruments }
    }

    /// The views, in the order of an observation's tensors.
    #[must_use]
    pub fn views(&self) -> &[View] {
        &self.views
    }

    /// The most rows of an environment's local stream that one observation can show, its own local row included.
    #[must_use]
    pub fn local_reach(&self) -> usize {
        let local = self.views.iter().filter(|view| view.clock == Clock::Local);
        local.map(|view| (view.length - 1) * view.stride + 1).max().unwrap_or(0)
    }

    /// Number of instruments.
    #[must_use]
    pub fn n_instruments(&self) -> usize {
        self.instruments.len()
    }

    /// Number of an instrument's steps on the decision clock.
    #[must_use]
    pub fn n_steps(&self, instrument: u16) -> usize {
        self.instruments[instrument as usize].slow_row.len()
    }

    /// The first step of an instrument at which every window is full.
    #[must_use]
    pub fn first_step(&self, instrument: u16) -> usize {
        self.instruments[instrument as usize].first_step
    }

    /// The newest row of the slow clock that is visible at step `t`.
    #[must_use]
    pub fn slow_row(&self, instrument: u16, t: u32) -> u32 {
        self.instruments[instrument as usize].slow_row[t as usize]
    }

    /// The stream of an instrument for a view.
    #[must_use]
    pub fn stream(&self, view: usize, instrument: u16) -> &FrameStream {
        &self.instruments[instrument as usize].streams[view]
    }

    /// The streams of all instruments for a view.
    pub(crate) fn streams_of(&self, view: usize) -> impl Iterator<Item = &FrameStream> {
        self.instruments.iter().map(move |instrument| &instrument.streams[view])
    }

    /// Bytes of all streams and of the maps to the slow clock.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let of = |instrument: &Instrument| {
            instrument.streams.iter().map(FrameStream::bytes).sum::<u64>()
                + instrument.slow_row.capacity() as u64 * 4
        };
        self.instruments.iter().map(of).sum()
    }

    /// Bytes of the streams by tier.
    #[must_use]
    pub fn tier_bytes(&self) -> TierBytes {
        let streams =
            self.instruments.iter().flat_map(|instrument| &instrument.streams).map(FrameStream::tier_bytes);
        streams.fold(TierBytes::default(), |sum, of| TierBytes {
            hot: sum.hot + of.hot,
            compressed: sum.compressed + of.compressed,
            mapped: sum.mapped + of.mapped,
        })
    }

    /// Moves the full chunks of the streams down the tiers, the largest stream first, until they fit the budget of
    /// `options`. Call it once, before the instruments are shared. It writes a new file, because each start of the
    /// program computes the streams from the data again.
    ///
    /// # Errors
    /// [`Error::NoFile`], or if the file cannot be written.
    pub fn enforce_budget(&mut self, options: &StoreOptions) -> Result<()> {
        let mut streams: Vec<&mut FrameStream> =
            self.instruments.iter_mut().flat_map(|instrument| &mut instrument.streams).collect();
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
        drop(streams);
        // What the chunks held stays resident in freed blocks of the heap until the heap is trimmed. It would be taken for
        // bytes that nobody counts, and the memory limit would set it aside for good.
        memsys::os::trim_heap();
        writer.map_or(Ok(()), |mut writer| {
            writer.file().limit_window(options.window_bytes);
            writer.commit(Durability::Process)
        })
    }

    /// Copies the window of view `view` at step `t` into `out` (`length × width` numbers).
    ///
    /// # Errors
    /// If the streams lie in a file that is damaged, was cut off or cannot be read.
    ///
    /// # Panics
    /// If the view is on [`Clock::Local`], or the window begins before the stream.
    pub fn copy_window(&self, view: usize, instrument: u16, t: u32, out: &mut [f32]) -> Result<()> {
        let View { length, stride, clock, .. } = self.views[view];
        let instrument = &self.instruments[instrument as usize];
        let end = match clock {
            Clock::Decision => t,
            Clock::Slow => instrument.slow_row[t as usize],
            Clock::Local => unreachable!("an environment's local rows lie in no instrument"),
        };
        instrument.streams[view].try_copy_window(end as usize, length, stride, out)
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
        dataset.copy_window(0, 0, 3, &mut out).unwrap();
        assert_eq!(out, [1.0, 2.0]);
        assert_eq!(dataset.n_steps(0), 5);
    }
}
