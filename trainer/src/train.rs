//! The steps of `plimsoll train`: resolve, apply the memory limit, load, build, run, conclude.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use buffers::frames::Dataset;
use memsys::libtorch::Runtime;
use memsys::step::room::with_room;

use crate::config::Config;
use crate::console::say_always;
use crate::envs::Environment;
use crate::envs::cartpole::CartPole;
use crate::envs::market::MarketEnvironment;
use crate::envs::observation::plain_views;
use crate::error::{Error, Result};
use crate::format;
use crate::market::dataset::{Market, prepare};
use crate::memory::{self, Applied};
use crate::report::summary;
use crate::resolve::{Parts, leave_out_unusable_spill, resolve, seed_of};
use crate::room_to_run::{require_disk, require_threads};
use crate::run::build::{Setting, build};
use crate::run::checkpoint::{self, Counters};
use crate::run::config::EnvironmentKind;
use crate::run::evaluation::Evaluator;
use crate::run::folder::RunFolder;
use crate::run::train_loop::Ended;

/// A request to train: the configuration and everything else that the run needs to know.
#[derive(Debug)]
pub struct TrainRequest {
    /// The configuration.
    pub config: Config,
    /// The folder of the run to resume, if any.
    pub resume: Option<PathBuf>,
    /// The command as the user gave it, for the report.
    pub command_line: String,
    /// The libtorch that was found at the start.
    pub runtime: Runtime,
}

/// Trains, and writes the run's folder. `say` prints progress messages.
///
/// # Errors
/// If the configuration or the data cannot be used, or the run fails. [`Error::OutOfRoom`] if the memory limit refused
/// something for good: it says whether the run is saved, and what to do.
pub fn train(request: TrainRequest, say: &(dyn Fn(&str) + Sync)) -> Result<Ended> {
    let began = Instant::now();
    let resumed = request.resume.as_deref().map(RunFolder::resume).transpose()?;
    let saved = resumed.as_ref().map(saved_counters).transpose()?.flatten();
    let mut parts = resolve(&request.config, &request.runtime)?;
    if let Some(saved) = &saved {
        require_steps(&parts, saved)?;
        keep_micro_batch(&mut parts, saved);
    }
    leave_out_unusable_spill(&mut parts.memory, say)?;
    require_threads(&parts)?;
    memsys::libtorch::set_threads_once(parts.threads)?;
    let applied = memory::apply(parts.memory.limit, &parts)?;
    let flat_bytes = parts.agent.policy().layout().flat_bytes();
    let out = request.resume.as_deref().or(parts.run.out.as_deref()).unwrap_or(Path::new("runs"));
    require_disk(out, &parts, flat_bytes, saved.is_some())?;
    let folder = match resumed {
        Some(folder) => folder,
        None => new_folder(&parts)?,
    };
    if request.config.memory.spill_folder.is_none() {
        parts.memory.activations.spill_folder = folder.root().to_path_buf();
    }
    let rates = request.config.values().into_iter().filter(|(key, _)| key == "agent.learning_rate");
    let learning_rate = rates.map(|(_, rate)| rate.to_string()).collect::<String>();
    train_in(folder.clone(), parts, applied, began, request, say).map_err(|error| {
        let is_saved = checkpoint::find(&folder.checkpoint()).is_ok_and(|saved| saved.is_some());
        let saved = is_saved.then_some(folder.root());
        let error = error.with_way_out(saved).with_divergence(&learning_rate, saved);
        folder.abandon();
        error
    })
}

fn train_in(
    folder: RunFolder,
    parts: Parts,
    applied: Option<Applied>,
    began: Instant,
    request: TrainRequest,
    say: &(dyn Fn(&str) + Sync),
) -> Result<Ended> {
    say(&format!("output in {}", folder.root().display()));
    say(&format!("device {:?}, {} thread(s), seed {}", parts.device, parts.threads, parts.run.seed));
    match parts.run.environment {
        EnvironmentKind::Market => {
            let market = with_room(|| load_market(&parts, &folder, say))?;
            let environment = MarketEnvironment::new(
                Arc::clone(&market.price_series),
                market.ranges(|split| split.train.clone()),
                market.rules,
                parts.market.episode_bars,
            )?;
            let dataset = Arc::clone(&market.dataset);
            if request.resume.is_some() {
                require_same_bars(&folder, &market)?;
            }
            let (identity, record) = (market.identity.clone(), Some(market.record()));
            let evaluator = Evaluator::Market(Box::new(market));
            let setting = Setting { parts, applied, folder, began, dataset, identity, record, evaluator };
            run(request, setting, environment, say)
        }
        EnvironmentKind::Cartpole => {
            let environment = CartPole::new();
            let dataset = Arc::new(Dataset::new(plain_views(environment.local_width()), Vec::new()));
            let evaluator = Evaluator::CartPole { seed: seed_of(parts.run.seed, 3) };
            let identity = "cartpole".to_owned();
            let setting =
                Setting { parts, applied, folder, began, dataset, identity, record: None, evaluator };
            run(request, setting, environment, say)
        }
    }
}

fn run<E>(
    request: TrainRequest,
    setting: Setting,
    environment: E,
    say: &(dyn Fn(&str) + Sync),
) -> Result<Ended>
where
    E: Environment + Clone + Send,
    E::State: Send,
{
    let config_toml = request.config.to_toml();
    let mut run = build(setting, config_toml, request.resume.is_some(), environment, say)?;
    let ended = run.run()?;
    let ended = match ended {
        Ended::Interrupted => ended,
        Ended::Done => match summary::conclude(&mut run.state, &request.command_line, &say_always) {
            // The last state is saved, and a run that is resumed from it has only its test left.
            Err(Error::Interrupted) => Ended::Interrupted,
            concluded => concluded.map(|()| ended)?,
        },
    };
    if ended == Ended::Interrupted {
        say_always(&format!(
            "interrupted and saved; go on with: plimsoll train --resume {}",
            run.state.folder.root().display()
        ));
    }
    Ok(ended)
}

/// Loads the market of a run, with its streams stored under the replay's options.
fn load_market(parts: &Parts, folder: &RunFolder, say: &(dyn Fn(&str) + Sync)) -> Result<Market> {
    let mut market = prepare(&parts.market, say)?;
    let dataset = Arc::get_mut(&mut market.dataset).expect("nobody else has seen the market yet");
    let mut store = parts.learning.replay.store.clone();
    store.file = Some(folder.streams());
    dataset.enforce_budget(&store)?;
    Ok(market)
}

/// Refuses to resume a run over other bars than its own. What their files are called does not count.
fn require_same_bars(folder: &RunFolder, market: &Market) -> Result<()> {
    if folder.load_data()?.identity == market.identity {
        return Ok(());
    }
    let problem =
        "was trained on other bars than these: give the bars of that run, with --data FILE... if they were \
                   moved, in the same order and with the same spelling of time"
            .to_owned();
    Err(Error::File { path: folder.root().to_path_buf(), problem })
}

/// The counters of the checkpoint that a resumed run goes on from; none if it has none yet.
fn saved_counters(folder: &RunFolder) -> Result<Option<Counters>> {
    let Some(saved) = checkpoint::settle(&folder.checkpoint())? else { return Ok(None) };
    let counters = checkpoint::load_counters(&saved)?;
    if counters.run == folder.run_name() {
        return Ok(Some(counters));
    }
    let problem = format!(
        "is of another run than {}: put back the one of the two that was exchanged",
        folder.config().display()
    );
    Err(Error::File { path: saved.join(checkpoint::COUNTERS), problem })
}

/// Refuses a run that is to be shorter than it is already.
fn require_steps(parts: &Parts, saved: &Counters) -> Result<()> {
    let (wanted, taken) = (parts.run.environment_steps, saved.environment_steps);
    // The last steps of all environments are taken together, and may pass the number that was asked for.
    if wanted.next_multiple_of(parts.run.n_environments as u64) >= taken {
        return Ok(());
    }
    let problem = format!(
        "the run has taken {taken} environment steps already, and {wanted} are fewer: give more to go on, --steps {taken} \
         to end it with its report, or start a new run"
    );
    Err(Error::Config { key: "run.environment_steps".to_owned(), problem })
}

/// Keeps to the micro-batch of the run that is resumed: another one would give other bits.
fn keep_micro_batch(parts: &mut Parts, saved: &Counters) {
    parts.memory.largest_micro_batch = saved.micro_batch;
    parts.memory.smallest_micro_batch = parts.memory.smallest_micro_batch.min(saved.micro_batch);
}

fn new_folder(parts: &Parts) -> Result<RunFolder> {
    if let Some(root) = &parts.run.out {
        return RunFolder::create(root);
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let millis = now.map_or(0, |since| since.as_millis() as i64);
    let kind = parts.run.environment.word();
    let name = format!("{kind}-{}", format::utc(millis, "%Y%m%d-%H%M%S"));
    RunFolder::create_numbered(&Path::new("runs").join(name))
}
