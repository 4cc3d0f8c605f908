//! Checkpoints. Each is written beside the last one and then renamed, so a complete one always exists.
//!
//! ```text
//! checkpoint/weights.safetensors   the weights that are judged, by name: those of the best validation, or the last ones
//!                                  where there was none. What PyTorch loads (`export/plimsoll_torch.py`)
//!           /last.safetensors      the online weights by name
//!           /learner.safetensors   flat online and target weights, Adam's moments, the best weights so far
//!           /loops.postcard        replay, accumulators, environments, random states; if the replay is in a file,
//!                                  only its priorities and counts, and the file is committed first
//!           /counters.json         counters, the best score, the identity of the data, the format's version
//! ```
//!
//! If the process is killed between the two renames, the last checkpoint is in `checkpoint.old`, and [`find`]
//! returns that folder.

use std::fs;
use std::path::{Path, PathBuf};

use agents::Policy;
use agents::update::UpdateCounters;
use memsys::ledger::budget;
use memsys::nn::parameters::Weights;
use memsys::step::room::with_room;
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use crate::envs::Environment;
use crate::error::{Error, Result};
use crate::export::metadata;
use crate::run::actor_loop::ActorState;
use crate::run::learner_loop::{LearnerLoop, LearnerState};
use crate::run::state_file;
use crate::run::tensor_file::{self, Metadata, TensorFile};

/// The version of the checkpoint format. Other versions are refused.
const VERSION: u32 = 5;

/// The counters of a checkpoint (`counters.json`).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Counters {
    /// The version of the checkpoint format.
    pub version: u32,
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
    /// Whether the learner keeps the target network's embeddings. A resumed run does what the run did, so that its results
    /// are equal to the bit.
    pub keeps_embeddings: bool,
    /// Identifies the data that the agent learned from.
    pub data_identity: String,
    /// The best validation score so far. `None` before the first validation.
    pub best: Option<BestScore>,
    /// The part of the last vector step that is still to be done, where the memory limit refused it.
    pub unfinished: Option<Unfinished>,
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

/// A checkpoint that was read back.
pub struct Checkpoint<E: Environment> {
    /// The counters.
    pub counters: Counters,
    /// The actor's state.
    pub actor: ActorState<E>,
    /// The learner's state.
    pub learner: LearnerState,
}

/// The file of the weights that are judged.
pub const WEIGHTS_FILE: &str = "weights.safetensors";
/// The file of the last weights.
pub const LAST_FILE: &str = "last.safetensors";
/// The name of the flat weights with the best validation score.
pub const BEST: &str = "best";
/// The name of the flat online weights among the agent's tensors.
pub const ONLINE: &str = "online";

/// Saves a run into `folder`, the run's `checkpoint/`. It takes a few mebibytes, however large the run is, and the memory
/// limit keeps room for them: no allocation of a save is refused.
///
/// # Errors
/// If a file cannot be written. The last checkpoint is then still there.
pub fn save<E: Environment>(
    folder: &Path,
    counters: &Counters,
    actor: &ActorState<E>,
    learner: &mut LearnerLoop,
    best: Option<&Tensor>,
    facts: &Metadata,
) -> Result<()> {
    budget::commit(|| save_all(folder, counters, actor, learner, best, facts))
}

fn save_all<E: Environment>(
    folder: &Path,
    counters: &Counters,
    actor: &ActorState<E>,
    learner: &mut LearnerLoop,
    best: Option<&Tensor>,
    facts: &Metadata,
) -> Result<()> {
    learner.commit()?;
    let learner = &*learner;
    let part = beside(folder, "part");
    remove(&part)?;
    // Not `create_dir_all`: a run whose folder was removed must not create it again.
    fs::create_dir(&part).map_err(Error::io(&part))?;
    write_weights(&part, counters, learner.agent().online(), best, facts)?;
    let mut tensors = learner.agent().tensors();
    tensors.extend(best.map(|best| (BEST, best)));
    tensor_file::write(&part.join("learner.safetensors"), &tensors, &Metadata::new())?;
    state_file::write(&part.join("loops.postcard"), &(actor, learner.state()))?;
    let UpdateCounters { loss_scale, n_adam_steps, .. } = learner.agent().counters();
    let micro_batch = learner.steps().first().micro_batch;
    let counters = Counters { version: VERSION, loss_scale, n_adam_steps, micro_batch, ..counters.clone() };
    let text = serde_json::to_vec_pretty(&counters).map_err(|error| unreadable(&part, &error))?;
    write(&part.join("counters.json"), &text)?;

    let old = beside(folder, "old");
    remove(&old)?;
    if folder.exists() {
        fs::rename(folder, &old).map_err(Error::io(folder))?;
    }
    fs::rename(&part, folder).map_err(Error::io(folder))?;
    remove(&old)
}

/// Writes the weights that are judged and the last ones, by name, each with what it says about itself.
fn write_weights(
    part: &Path,
    counters: &Counters,
    online: &Weights,
    best: Option<&Tensor>,
    facts: &Metadata,
) -> Result<()> {
    let write = |file: &str, flat: &Tensor, which: &str, environment_steps: u64| {
        let named = online.layout().named(flat)?;
        let named: Vec<(&str, &Tensor)> = named.iter().map(|(name, tensor)| (*name, tensor)).collect();
        let facts = metadata::of_weights(facts, which, environment_steps);
        tensor_file::write(&part.join(file), &named, &facts)
    };
    let last_steps = counters.environment_steps;
    write(LAST_FILE, online.flat(), "last", last_steps)?;
    match (best, counters.best) {
        (Some(best), Some(score)) => write(WEIGHTS_FILE, best, "best validation", score.environment_steps),
        _ => write(WEIGHTS_FILE, online.flat(), "last", last_steps),
    }
}

/// The complete checkpoint of a run: `folder`, or the older one if a kill fell between the renames.
///
/// # Errors
/// [`Error::File`] if there is no checkpoint.
pub fn find(folder: &Path) -> Result<PathBuf> {
    let candidates = [folder.to_path_buf(), beside(folder, "old")];
    candidates.into_iter().find(|path| path.join("counters.json").is_file()).ok_or_else(|| Error::File {
        path: folder.to_path_buf(),
        problem: "there is no checkpoint to resume from; start the run anew without --resume".to_owned(),
    })
}

/// Reads the counters of a checkpoint.
///
/// # Errors
/// [`Error::File`] if they are damaged or of another version.
pub fn load_counters(folder: &Path) -> Result<Counters> {
    let path = folder.join("counters.json");
    let counters: Counters =
        serde_json::from_slice(&read(&path)?).map_err(|error| unreadable(&path, &error))?;
    if counters.version != VERSION {
        let problem = format!("is of version {}, this program reads version {VERSION}", counters.version);
        return Err(Error::File { path, problem });
    }
    Ok(counters)
}

/// Reads the loops' state of a checkpoint back.
///
/// # Errors
/// [`Error::File`] if a part is damaged.
pub fn load<E: Environment>(folder: &Path) -> Result<Checkpoint<E>> {
    let counters = load_counters(folder)?;
    let (actor, learner) = state_file::read(&folder.join("loops.postcard"))?;
    Ok(Checkpoint { counters, actor, learner })
}

/// Opens the flat tensors of a checkpoint.
///
/// # Errors
/// [`Error::Io`], or [`Error::File`] if they are damaged.
pub fn open_tensors(folder: &Path) -> Result<TensorFile> {
    TensorFile::open(&folder.join("learner.safetensors"))
}

/// The weights of a checkpoint with the best validation score, or the last ones if there was no validation.
///
/// # Errors
/// [`Error::Io`], or [`Error::File`] if they are damaged or of another network.
pub fn load_weights(folder: &Path, policy: &dyn Policy, device: Device) -> Result<Weights> {
    let tensors = open_tensors(folder)?;
    let weights = with_room(|| Weights::zeros(policy.layout(), device))?;
    tensors.copy_into(if tensors.holds(BEST)? { BEST } else { ONLINE }, weights.flat())?;
    Ok(weights)
}

fn beside(folder: &Path, suffix: &str) -> PathBuf {
    let mut name = folder.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io(folder)(error)),
        _ => Ok(()),
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write;
    let mut file = fs::File::create(path).map_err(Error::io(path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(Error::io(path))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(Error::io(path))
}

fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::File { path: path.to_path_buf(), problem: format!("the checkpoint is damaged: {error}") }
}
