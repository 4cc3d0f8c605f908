//! Whether the transitions of a replay that was read back can be this run's.
//!
//! The checksums of a saved state say that it is what was saved. This says that it was saved over this dataset, so that no
//! later gather reads rows that are not there.

use crate::error::{Error, Result};
use crate::frames::{Clock, Dataset, FrameStream};
use crate::replay::Transition;
use crate::replay::prioritized::Replay;

impl Replay {
    /// Checks that every transition refers to rows that the dataset and the local streams have, and that its numbers are
    /// possible. Transitions in damaged chunks are left to the draw that meets them.
    ///
    /// # Errors
    /// [`Error::ImpossibleTransition`] with the first one that cannot be; if the file cannot be read.
    pub(super) fn validate(&self) -> Result<()> {
        let transitions = self.sampler.transitions();
        for index in 0..self.len() {
            let mut found = None;
            let read = transitions.read(&[index], |slot, transition| {
                let what = impossible(&self.dataset, &self.local, self.local_reach, transition);
                found = what.map(|what| Error::ImpossibleTransition { number: slot.number() as u64, what });
            });
            match read {
                Ok(()) | Err(Error::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
            if let Some(impossible) = found {
                return Err(impossible);
            }
        }
        Ok(())
    }
}

fn impossible(
    dataset: &Dataset,
    local: &[FrameStream],
    local_reach: usize,
    transition: &Transition,
) -> Option<&'static str> {
    let (from, to) = (transition.from, transition.to());
    let Some(rows) = local.get(usize::from(from.environment)) else {
        return Some("the environment does not exist");
    };
    let ends = [from.local as usize, to.local as usize];
    let first = (ends[0].min(ends[1]) + 1).saturating_sub(local_reach);
    if ends[0].max(ends[1]) >= rows.n_rows() || first < rows.first_row() {
        return Some("the environment's own rows do not exist");
    }
    if dataset.views().iter().any(|view| view.clock != Clock::Local) {
        if usize::from(from.instrument) >= dataset.n_instruments() {
            return Some("the instrument does not exist");
        }
        let steps = dataset.first_step(from.instrument)..dataset.n_steps(from.instrument);
        if [from.t, to.t].iter().any(|t| !steps.contains(&(*t as usize))) {
            return Some("the bars do not exist");
        }
    }
    if !transition.reward.is_finite() || !(0.0..=1.0).contains(&transition.discount) {
        return Some("the reward or the discount is no such number");
    }
    None
}
