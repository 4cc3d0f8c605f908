//! Runs a command inside a real memory control group, where this user may make one.

use std::process::{Command, Output};

use memsys::os;

use crate::skip;

/// A memory control group with a limit. Dropping it removes it from the system.
#[derive(Debug)]
pub struct ControlGroup(os::ControlGroup);

impl ControlGroup {
    /// Makes a group. Where it cannot, the test is to be skipped, and [`skip`] has said why.
    #[must_use]
    pub fn new(name: &str, limit_bytes: u64) -> Option<Self> {
        let made = os::ControlGroup::new(name, limit_bytes);
        if let Err(error) = &made {
            skip(&format!(
                "no memory control group can be made here ({error}): it takes root, or a delegated group"
            ));
        }
        made.ok().map(Self)
    }

    /// Runs a command inside the group to its end.
    ///
    /// # Panics
    /// Where it cannot be started.
    #[must_use]
    pub fn run(&self, command: &Command) -> Output {
        self.0.inside(command).output().expect("sh starts")
    }

    /// The number of processes that the kernel killed because the group was full.
    #[must_use]
    pub fn n_killed(&self) -> u64 {
        self.0.n_killed()
    }
}
