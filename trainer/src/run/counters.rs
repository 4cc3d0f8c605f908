//! The counters of a checkpoint, `counters.json`: what a person reads of it, and the sums of its other files.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::atomic_file::write_aside;
use crate::error::{Error, Result};
use crate::run::summed_file::FileSum;
use crate::seal;

/// The version of the checkpoint format. Other versions are refused.
const VERSION: u32 = 6;
/// The file of the counters in a checkpoint. It is written last, so a checkpoint without it was never whole.
pub const FILE: &str = "counters.json";

/// The counters of a checkpoint.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Counters {
    /// The version of the checkpoint format.
    pub version: u32,
    /// The name of the run, which `config.toml` holds too.
    pub run: String,
    /// Environment steps taken.
    pub environment_steps: u64,
    /// Learner steps taken.
    pub learner_steps: u64,
    /// Wall-clock seconds of all sessions so far. Each resume starts another session.
    pub wall_seconds: f64,
    /// Wall-clock seconds spent in learner steps.
    pub learner_seconds: f64,
    /// Processor seconds of all threads during the learner steps.
    pub learner_processor_seconds: f64,
    /// The largest number of resident bytes in any session.
    pub peak_resident_bytes: u64,
    /// The loss scale and the number of steps since it last overflowed. Used with f16 only.
    pub loss_scale: (f64, u32),
    /// Steps that Adam took. With f16 only, they are fewer than the learner's: Adam takes none where gradients overflowed.
    pub n_adam_steps: u64,
    /// The largest micro-batch of the run's learner steps. A resumed run uses the same size, so that its results are
    /// equal to the bit.
    pub micro_batch: usize,
    /// Threads that computed, and the device. Others may round sums differently.
    pub threads: i32,
    /// See `threads`.
    pub device: String,
    /// Whether the learner keeps the target network's embeddings. A resumed run does what the run did, so that its results
    /// are equal to the bit.
    pub keeps_embeddings: bool,
    /// Identifies the data that the agent learned from.
    pub data_identity: String,
    /// The best validation score so far. `None` before the first validation.
    pub best: Option<BestScore>,
    /// Environment steps after which the test was reported, ascending: a run that goes on after them has shown its test.
    pub reported_at: Vec<u64>,
    /// The part of the last vector step that is still to be done, where the memory limit refused it.
    pub unfinished: Option<Unfinished>,
    /// `metrics.jsonl` up to this checkpoint. A resumed run drops what follows.
    pub metrics: Option<FileSum>,
    /// The other files of the checkpoint, by name.
    pub files: BTreeMap<String, FileSum>,
}

/// A vector step that is in the replay, and whose learner steps, metrics row or evaluation are not all done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfinished {
    /// Environment steps before it.
    pub since: u64,
    /// Whether the learner steps are taken and the metrics row is written.
    pub has_row: bool,
}

/// The best validation score so far.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BestScore {
    /// Log return in a market, mean episode return elsewhere.
    pub score: f64,
    /// Environment steps taken when it was reached.
    pub environment_steps: u64,
}

impl Counters {
    /// The file of counters of this version.
    pub(super) fn to_file(&self) -> Vec<u8> {
        seal::to_json(&Self { version: VERSION, ..self.clone() })
    }

    /// The sum of a file of the checkpoint in `folder`.
    ///
    /// # Errors
    /// [`Error::File`] if the checkpoint has no such file.
    pub fn sum_of(&self, folder: &Path, name: &str) -> Result<&FileSum> {
        self.files.get(name).ok_or_else(|| Error::File {
            path: folder.join(FILE),
            problem: format!("the checkpoint is damaged: it lists no {name}"),
        })
    }
}

/// Notes in the checkpoint that the test was reported after `environment_steps`. Only the run itself may call it: nobody
/// else knows that no save is under way.
///
/// # Errors
/// If the counters cannot be read or replaced.
pub fn note_report(folder: &Path, environment_steps: u64) -> Result<()> {
    let mut counters = load_counters(folder)?;
    if !counters.reported_at.contains(&environment_steps) {
        counters.reported_at.push(environment_steps);
        write_aside(&folder.join(FILE), &counters.to_file())?;
    }
    Ok(())
}

/// Reads the counters of a checkpoint.
///
/// # Errors
/// [`Error::File`] if they are missing, damaged or of another version.
pub fn load_counters(folder: &Path) -> Result<Counters> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let path = folder.join(FILE);
    let way_out = "put back the checkpoint from a copy of the run's folder, or start a new run";
    let refuse = |what: String| Error::File { path: path.clone(), problem: format!("{what}: {way_out}") };
    let text = std::fs::read(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => refuse("is missing, so the checkpoint is not whole".to_owned()),
        _ => Error::io(&path)(error),
    })?;
    if !seal::is_whole_json(&text) {
        return Err(match serde_json::from_slice::<Version>(&text) {
            Ok(Version { version }) if version < VERSION => {
                let problem = format!(
                    "is of version {version}, this program reads version {VERSION}: go on with the program that wrote \
                     it, or start a new run"
                );
                Error::File { path, problem }
            }
            _ => refuse("the checkpoint is damaged: the file is not what was saved".to_owned()),
        });
    }
    let counters: Counters = serde_json::from_slice(&text)
        .map_err(|error| refuse(format!("the checkpoint cannot be read ({error})")))?;
    if counters.version != VERSION {
        let version = counters.version;
        return Err(refuse(format!("is of version {version}, this program reads version {VERSION}")));
    }
    Ok(counters)
}
