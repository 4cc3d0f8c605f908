//! The children that run now, each in a control group of its own, so that a signal to the bench ends them all.

use std::fs::File;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use memsys::os::{ChildEnd, ControlGroup, MeasuredChild};

use crate::error::{Error, Result};

/// Bytes above the memory limit that a control group allows: the kernel charges a group for bytes that no process holds,
/// such as page tables and stacks of its own.
pub(super) const BESIDE_BYTES: u64 = 4 << 20;
/// Time between two looks at a child.
const POLL: Duration = Duration::from_millis(5);
/// A child that has not ended by then is killed.
const PATIENCE: Duration = Duration::from_secs(900);

/// The children that run now.
#[derive(Debug)]
pub(super) struct Children {
    running: Mutex<Vec<Running>>,
    are_grouped: bool,
}

#[derive(Debug)]
struct Running {
    id: usize,
    child: MeasuredChild,
    group: Option<ControlGroup>,
}

/// What became of a child.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended {
    /// How it ended, and its peak.
    pub(super) end: ChildEnd,
    /// The peak of its control group, where there is one and the kernel tells.
    pub(super) group_peak_bytes: Option<u64>,
    /// Whether the kernel killed it because the group was full.
    pub(super) is_killed_for_memory: bool,
    /// Whether it was killed because it did not end.
    pub(super) is_stuck: bool,
}

impl Children {
    /// No children yet. `are_grouped` says whether control groups can be made here.
    pub(super) fn new(are_grouped: bool) -> Self {
        Self { running: Mutex::default(), are_grouped }
    }

    /// Keeps any child from being started, and [`stop`](Self::stop) from going on, until the guard is dropped.
    pub(super) fn hold(&self) -> impl Drop + '_ {
        self.lock()
    }

    /// Runs a command to its end, in a control group of its own where `limit_bytes` is given and groups can be made. What
    /// it says goes to `said`. It is interrupted, as by Ctrl-C, as soon as `is_time` says so.
    ///
    /// # Errors
    /// If the command cannot be started, or its control group cannot be made.
    pub(super) fn run(
        &self,
        id: usize,
        mut command: Command,
        limit_bytes: Option<u64>,
        said: &File,
        mut is_time: impl FnMut() -> bool,
    ) -> Result<Ended> {
        let failed = || Error::io("plimsoll");
        {
            let mut running = self.lock();
            let group = limit_bytes
                .filter(|_| self.are_grouped)
                .map(|limit| ControlGroup::new(&format!("limit-{id}"), limit + BESIDE_BYTES))
                .transpose()
                .map_err(Error::io("the memory control group"))?;
            if let Some(group) = &group {
                command = group.inside(&command);
            }
            command.stdin(Stdio::null());
            command.stdout(said.try_clone().map_err(failed())?).stderr(said.try_clone().map_err(failed())?);
            let child = MeasuredChild::spawn(&mut command).map_err(failed())?;
            running.push(Running { id, child, group });
        }
        let began = Instant::now();
        let (mut is_interrupted, mut is_stuck) = (false, false);
        loop {
            {
                let mut running = self.lock();
                let at = running.iter().position(|one| one.id == id).expect("only this thread takes it out");
                let Running { child, .. } = &mut running[at];
                if let Some(end) = child.try_wait().map_err(failed())? {
                    let group = running.swap_remove(at).group;
                    return Ok(Ended {
                        end,
                        group_peak_bytes: group.as_ref().and_then(ControlGroup::peak_bytes),
                        is_killed_for_memory: group.is_some_and(|group| group.n_killed() > 0),
                        is_stuck,
                    });
                }
                if !is_stuck && began.elapsed() > PATIENCE {
                    is_stuck = true;
                    child.kill().map_err(failed())?;
                }
                if !is_interrupted && is_time() {
                    is_interrupted = true;
                    child.interrupt();
                }
            }
            std::thread::sleep(POLL);
        }
    }

    /// Kills every child and removes its control group. No other child starts afterwards: this never lets go.
    pub(super) fn stop(&self) {
        let mut running = self.lock();
        for one in running.iter_mut() {
            let _ = one.child.kill();
        }
        running.clear();
        std::mem::forget(running);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
