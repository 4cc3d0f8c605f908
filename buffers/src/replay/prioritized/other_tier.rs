//! A saved replay in another tier than the one that it was saved in.
//!
//! A window reads the same bits in every tier, so a resumed run may have its rows elsewhere. The rows are copied stream by
//! stream: for a moment the largest stream is held twice.

use crate::error::Result;
use crate::frames::FrameStream;
use crate::replay::prioritized::{Replay, ReplayOptions};
use crate::replay::tiers::Tiers;
use crate::store::{StoreOptions, Tier};

impl Replay {
    /// Lays the rows of a replay that was read back out as the tier of `options` has them.
    ///
    /// # Errors
    /// If the file of the tier that it was saved in cannot be opened, or a row of it cannot be read.
    pub(super) fn change_tier(&mut self, options: &ReplayOptions, local_reach: usize) -> Result<()> {
        let is_filed = self.local.iter().any(FrameStream::is_filed);
        let is_streamed = self.sampler.transitions().stream().is_some();
        let wanted = &options.store;
        let is_wanted_streamed = wanted.tier != Tier::Hot && !options.copies_observations;
        if (is_filed, is_streamed) == (wanted.tier == Tier::Mapped, is_wanted_streamed) {
            return Ok(());
        }
        // It is opened as it was saved. Its file stays where it is, because the last checkpoint refers to it.
        let tier = if is_filed { Tier::Mapped } else { Tier::Hot };
        let mut saved =
            Tiers::new(StoreOptions { tier, ..wanted.clone() }, options.n_environments, local_reach);
        saved.adopt(&mut self.sampler, &mut self.local, self.commit)?;
        let tiers = Tiers::new(wanted.clone(), options.n_environments, local_reach);
        for local in &mut self.local {
            let empty = tiers.local_stream(options.local_width);
            *local = empty.with_rows(local.first_row(), local.n_rows(), |row, bytes| {
                local.copy_window_bytes(row, 1, 1, bytes)
            })?;
        }
        let stream = is_wanted_streamed.then(|| tiers.transition_stream());
        self.sampler.transitions_mut().move_to(stream)?;
        self.commit = None;
        Ok(())
    }
}
