//! Checkpoints. Each is written beside the last one and then takes its place, so a complete one always exists.
//!
//! ```text
//! checkpoint/weights.safetensors   the weights that are judged, by name: those of the best validation, or the last ones
//!                                  where there was none. What PyTorch loads (`export/plimsoll_torch.py`)
//!           /last.safetensors      the online weights by name
//!           /learner.safetensors   flat online and target weights, Adam's moments, the best weights so far
//!           /loops.postcard        replay, accumulators, environments, random states; if the replay is in a file,
//!                                  only its priorities and counts, and the file is committed first
//!           /config.toml           the configuration at the save
//!           /counters.json         counters, the best score, the identity of the data, the format's version, and
//!                                  length and CRC-32 of the other files
//! ```
//!
//! Every file is compared with its length and CRC-32 before anything of it is used.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use agents::Policy;
use agents::update::UpdateCounters;
use memsys::ledger::budget;
use memsys::nn::parameters::Weights;
use memsys::step::room::with_room;
use tch::{Device, Tensor};

use crate::envs::Environment;
use crate::error::{Error, Result};
use crate::export::metadata;
use crate::run::actor_loop::ActorState;
use crate::run::learner_loop::{LearnerLoop, LearnerState};
use crate::run::summed_file::{FileSum, SummedFile};
use crate::run::tensor_file::{self, Metadata, TensorFile};
use crate::run::{checkpoint_folder, counters, state_file};

pub use crate::run::checkpoint_folder::{check_whole, find, require, settle};
pub use crate::run::counters::{
    BestScore, Counters, FILE as COUNTERS, Unfinished, load_counters, note_report,
};

const LEARNER: &str = "learner.safetensors";
const LOOPS: &str = "loops.postcard";
const CONFIG: &str = "config.toml";

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

/// Saves a run into `folder`, the run's `checkpoint/`, with its sealed configuration. It takes a few mebibytes, however large
/// the run is, and the memory limit keeps room for them: no allocation of a save is refused.
///
/// # Errors
/// If a file cannot be written. The last checkpoint is then still there.
pub fn save<E: Environment>(
    folder: &Path,
    counters: &Counters,
    config: &[u8],
    actor: &ActorState<E>,
    learner: &mut LearnerLoop,
    best: Option<&Tensor>,
    facts: &Metadata,
) -> Result<()> {
    budget::commit(|| save_all(folder, counters, config, actor, learner, best, facts))
        // On a full disk its half would take the room that the next save needs.
        .inspect_err(|_| checkpoint_folder::give_up(folder))
}

fn save_all<E: Environment>(
    folder: &Path,
    counters: &Counters,
    config: &[u8],
    actor: &ActorState<E>,
    learner: &mut LearnerLoop,
    best: Option<&Tensor>,
    facts: &Metadata,
) -> Result<()> {
    learner.commit()?;
    let learner = &*learner;
    let part = checkpoint_folder::begin(folder)?;
    let mut files = BTreeMap::new();
    let mut put = |name: &str, sum: FileSum| files.insert(name.to_owned(), sum);
    for (name, sum) in write_weights(&part, counters, learner.agent().online(), best, facts)? {
        put(name, sum);
    }
    let mut tensors = learner.agent().tensors();
    tensors.extend(best.map(|best| (BEST, best)));
    put(LEARNER, tensor_file::write(&part.join(LEARNER), &tensors, &Metadata::new())?);
    put(LOOPS, state_file::write(&part.join(LOOPS), &(actor, learner.state()))?);
    put(CONFIG, write(&part.join(CONFIG), config)?);
    let UpdateCounters { loss_scale, n_adam_steps, .. } = learner.agent().counters();
    let micro_batch = learner.steps().first().micro_batch;
    let counters = Counters { loss_scale, n_adam_steps, micro_batch, files, ..counters.clone() };
    // The sums come last: a checkpoint without them is none.
    let _ = write(&part.join(counters::FILE), &counters.to_file())?;
    checkpoint_folder::put_in_place(&part, folder)
}

/// Writes the weights that are judged and the last ones, by name, each with what it says about itself.
fn write_weights(
    part: &Path,
    counters: &Counters,
    online: &Weights,
    best: Option<&Tensor>,
    facts: &Metadata,
) -> Result<[(&'static str, FileSum); 2]> {
    let write = |file: &'static str, flat: &Tensor, which: &str, environment_steps: u64| {
        let named = online.layout().named(flat)?;
        let named: Vec<(&str, &Tensor)> = named.iter().map(|(name, tensor)| (*name, tensor)).collect();
        let facts = metadata::of_weights(facts, which, environment_steps);
        Result::Ok((file, tensor_file::write(&part.join(file), &named, &facts)?))
    };
    let last_steps = counters.environment_steps;
    let last = write(LAST_FILE, online.flat(), "last", last_steps)?;
    let judged = match (best, counters.best) {
        (Some(best), Some(score)) => write(WEIGHTS_FILE, best, "best validation", score.environment_steps)?,
        _ => write(WEIGHTS_FILE, online.flat(), "last", last_steps)?,
    };
    Ok([last, judged])
}

/// Reads the loops' state of a checkpoint back.
///
/// # Errors
/// [`Error::File`] if a part is damaged.
pub fn load<E: Environment>(folder: &Path) -> Result<Checkpoint<E>> {
    let counters = load_counters(folder)?;
    let (actor, learner) = state_file::read(&folder.join(LOOPS), counters.sum_of(folder, LOOPS)?)?;
    Ok(Checkpoint { counters, actor, learner })
}

/// Opens the flat tensors of a checkpoint.
///
/// # Errors
/// [`Error::Io`], or [`Error::File`] if they are damaged.
pub fn open_tensors(folder: &Path) -> Result<TensorFile> {
    TensorFile::open(&folder.join(LEARNER), load_counters(folder)?.sum_of(folder, LEARNER)?)
}

/// The weights of a checkpoint with the best validation score, or the last ones if there was no validation.
///
/// # Errors
/// [`Error::Io`], or [`Error::File`] if they are damaged or of another network.
pub fn load_weights(folder: &Path, policy: &dyn Policy, device: Device) -> Result<Weights> {
    let tensors = open_tensors(folder)?;
    let name = if tensors.holds(BEST)? { BEST } else { ONLINE };
    weights_named(&tensors, name, policy, device)
}

/// The last weights of a checkpoint.
///
/// # Errors
/// As [`load_weights`].
pub fn load_last_weights(folder: &Path, policy: &dyn Policy, device: Device) -> Result<Weights> {
    weights_named(&open_tensors(folder)?, ONLINE, policy, device)
}

fn weights_named(tensors: &TensorFile, name: &str, policy: &dyn Policy, device: Device) -> Result<Weights> {
    let weights = with_room(|| Weights::zeros(policy.layout(), device))?;
    tensors.copy_into(name, weights.flat())?;
    Ok(weights)
}

fn write(path: &Path, bytes: &[u8]) -> Result<FileSum> {
    let mut file = SummedFile::create(path)?;
    file.write_all(bytes).map_err(Error::io(path))?;
    file.finish()
}
