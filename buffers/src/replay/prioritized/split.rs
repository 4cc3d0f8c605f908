//! A replay split in two while nothing is inserted: one half draws, the other gathers.
//!
//! Draws and priorities use the tree and take turns. Gathering changes nothing and takes most of the time. Threads that
//! share a replay hold a lock for [`Draws`] alone, and no lock while they copy or decode rows:
//!
//! ```text
//! lock: draw_into ──> unlocked: gather_into ──> learner ──> lock: update_priorities
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use memsys::os::bytes_read_by_this_thread;
use rand_pcg::Pcg64Mcg;

use crate::error::{Error, Result};
use crate::frames::{Dataset, FrameStream};
use crate::replay::batch::Batch;
use crate::replay::copied_observations::CopiedObservations;
use crate::replay::gather::{gather, will_need};
use crate::replay::prioritized::Replay;
use crate::replay::sampler::{Drawn, Sampler};
use crate::replay::transitions::Slot;
use crate::store::{ChunkFile, Tier};

/// The half of a replay that draws transitions and updates priorities.
#[derive(Debug)]
pub struct Draws<'a> {
    sampler: &'a mut Sampler,
    rows: Rows<'a>,
}

impl Draws<'_> {
    /// As [`Replay::draw_into`].
    ///
    /// # Errors
    /// As [`Replay::draw_into`].
    pub fn draw_into(
        &self,
        n: usize,
        importance_sampling_exponent: f64,
        rng: &mut Pcg64Mcg,
        batch: &mut impl Batch,
    ) -> Result<()> {
        self.rows.draw(self.sampler, n, importance_sampling_exponent, rng, batch)
    }

    /// As [`Replay::update_priorities`].
    ///
    /// # Errors
    /// As [`Replay::update_priorities`].
    pub fn update_priorities(&mut self, slots: &[Slot], td_errors: &[f32]) -> Result<()> {
        self.sampler.update_priorities(slots, td_errors)
    }
}

/// The half of a replay that gathers drawn transitions. Many threads may gather at once.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    dataset: &'a Dataset,
    local: &'a [FrameStream],
    copies: Option<&'a CopiedObservations>,
    tier: Tier,
    is_cold: &'a AtomicBool,
    n_inserted: u64,
}

impl Rows<'_> {
    /// As [`Replay::gather_into`].
    ///
    /// # Errors
    /// As [`Replay::gather_into`].
    pub fn gather_into(&self, batch: &mut impl Batch) -> Result<()> {
        let drawn = batch.take_drawn();
        if let Err(error) = self.gather_windows(&drawn, batch) {
            batch.keep_drawn(drawn);
            return Err(error);
        }
        batch.put_columns(drawn)
    }

    fn gather_windows(&self, drawn: &Drawn, batch: &mut impl Batch) -> Result<()> {
        if drawn.n_inserted != self.n_inserted {
            return Err(Error::InsertedSinceDrawn { n_inserted: self.n_inserted.abs_diff(drawn.n_inserted) });
        }
        let before = self.bytes_read();
        let observation_refs = [&drawn.observation_refs[..], &drawn.next_observation_refs];
        if drawn.reads_ahead || self.is_cold.load(Relaxed) {
            will_need(self.dataset, self.local, observation_refs);
        }
        for (index, view) in self.dataset.views().iter().enumerate() {
            let windows = batch.windows_mut(index, view, drawn.observation_refs.len())?;
            match self.copies {
                Some(copies) => copies.gather(index, &drawn.indices, windows),
                None => gather(self.dataset, self.local, index, observation_refs, windows)?,
            }
        }
        if self.bytes_read() > before {
            self.is_cold.store(true, Relaxed);
        }
        self.check_files(self.local)
    }

    /// Checks that no file of the streams, or of the dataset's, was cut off while rows were read.
    fn check_files<'s>(&'s self, streams: impl IntoIterator<Item = &'s FrameStream>) -> Result<()> {
        if self.tier != Tier::Mapped {
            return Ok(());
        }
        let views = 0..self.dataset.views().len();
        let shared = views.flat_map(|view| self.dataset.streams_of(view));
        let mut checked: Option<&Arc<ChunkFile>> = None;
        for file in shared.chain(streams).filter_map(FrameStream::file) {
            if checked.is_none_or(|checked| !Arc::ptr_eq(checked, file)) {
                file.check_length()?;
                checked = Some(file);
            }
        }
        Ok(())
    }

    fn draw(
        &self,
        sampler: &Sampler,
        n: usize,
        importance_sampling_exponent: f64,
        rng: &mut Pcg64Mcg,
        batch: &mut impl Batch,
    ) -> Result<()> {
        let mut drawn = batch.reset(self.dataset.views().len());
        drawn.reads_ahead = self.is_cold.load(Relaxed);
        let before = self.bytes_read();
        let drawn_now = sampler.draw(n, importance_sampling_exponent, rng, &mut drawn);
        let outcome = drawn_now.and_then(|()| self.check_files(sampler.transitions().stream()));
        self.is_cold.store(self.bytes_read() > before, Relaxed);
        batch.keep_drawn(drawn);
        outcome
    }

    /// Bytes that disks have read for this thread, or 0 if no rows lie in a file.
    fn bytes_read(&self) -> u64 {
        if self.tier == Tier::Mapped { bytes_read_by_this_thread() } else { 0 }
    }
}

impl Replay {
    /// The two halves, for threads that share the replay.
    pub fn split(&mut self) -> (Draws<'_>, Rows<'_>) {
        let Self { dataset, sampler, local, copies, tiers, is_cold, .. } = self;
        let (tier, n_inserted) = (tiers.tier(), sampler.transitions().n_inserted());
        let rows = Rows { dataset, local, copies: copies.as_ref(), tier, is_cold, n_inserted };
        (Draws { sampler, rows }, rows)
    }

    fn rows(&self) -> Rows<'_> {
        let Self { dataset, sampler, local, copies, tiers, is_cold, .. } = self;
        let (tier, n_inserted) = (tiers.tier(), sampler.transitions().n_inserted());
        Rows { dataset, local, copies: copies.as_ref(), tier, is_cold, n_inserted }
    }

    /// The first half of [`Self::sample_into`]: draws by the current priorities. [`Self::gather_into`] must follow before
    /// transitions are inserted.
    ///
    /// # Errors
    /// [`Error::Empty`](crate::Error::Empty), or if a file that holds transitions cannot be read.
    pub fn draw_into(
        &self,
        n: usize,
        importance_sampling_exponent: f64,
        rng: &mut Pcg64Mcg,
        batch: &mut impl Batch,
    ) -> Result<()> {
        self.rows().draw(&self.sampler, n, importance_sampling_exponent, rng, batch)
    }

    /// The second half of [`Self::sample_into`]: gathers the observations of the drawn transitions. It may run on another
    /// thread during a learner step.
    ///
    /// # Errors
    /// [`Error::InsertedSinceDrawn`]; if rows cannot be read from a file, or libtorch refuses the memory. The batch must not be used then. What was drawn
    /// stays drawn, so the same batch can be gathered again.
    pub fn gather_into(&self, batch: &mut impl Batch) -> Result<()> {
        self.rows().gather_into(batch)
    }
}
