//! Whether the transitions of a replay that was read back can be this run's.
//!
//! The checksums of a saved state say that it is what was saved. This says that it was saved over this dataset, so that no
//! later gather reads rows that are not there.

use crate::error::{Error, Result};
use crate::replay::intake::impossible;
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
                let what = match self.local.get(usize::from(transition.from.environment)) {
                    None => Some("its environment does not exist"),
                    Some(rows) => {
                        let held = rows.first_row()..rows.n_rows();
                        impossible(transition, held, self.local_reach, &self.dataset)
                    }
                };
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
