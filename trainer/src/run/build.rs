//! `plimsoll train`: puts a run together, runs it, tells what came of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use agents::dqn::{Actor, Body, DqnConfig, EpsilonSchedule, Learner, Network, Precision, TargetUpdate};
use buffers::frames::Dataset;
use memsys::libtorch::Runtime;
use memsys::nn::precision::LossScale;
use tch::Device;

use crate::atomic_file::write_aside;
use crate::config::{self, Config, DeviceChoice, EmbedderPreset, EnvironmentKind};
use crate::envs::Environment;
use crate::envs::cartpole::CartPole;
use crate::envs::market::MarketEnvironment;
use crate::envs::observation::plain_views;
use crate::error::{Error, Result};
use crate::market::dataset::prepare;
use crate::memory::limit;
use crate::memory::profile::MemoryProfile;
use crate::report::summary;
use crate::run::actor_loop::{ActorLoop, ExplorationPlan};
use crate::run::checkpoint::{self, Counters};
use crate::run::evaluation::Evaluator;
use crate::run::folder::RunFolder;
use crate::run::learner_loop::{LearnerLoop, store_options};
use crate::run::train_loop::{Ended, RunState, Session, Window};
use crate::telemetry::metrics::MetricsWriter;
use crate::telemetry::progress::Progress;
use crate::telemetry::tensorboard::EventWriter;

/// What a run is told beside its configuration.
#[derive(Debug)]
pub struct TrainRequest {
    /// The configuration, resolved.
    pub config: Config,
    /// The folder of the run that is resumed.
    pub resume: Option<PathBuf>,
    /// The command as it was given, for the report.
    pub command_line: String,
    /// libtorch, as it was found at start.
    pub runtime: Runtime,
    /// Set from outside: save and stop.
    pub stop: Arc<AtomicBool>,
}

/// Trains, and writes the run's folder. `say` tells a person what goes on.
///
/// # Errors
/// Where the configuration or the data cannot be used, or the run fails.
pub fn train(order: TrainRequest, say: &(dyn Fn(&str) + Sync)) -> Result<Ended> {
    let began = Instant::now();
    let config = &order.config;
    let device = device(config.run.device, &order.runtime)?;
    if config.agent.precision == config::PrecisionChoice::F16 && !device.is_cuda() {
        let problem = "f16 is computed on a GPU alone; take bf16 or f32 on the CPU".to_owned();
        return Err(Error::Config { key: "agent.precision".to_owned(), problem });
    }
    let threads = threads(config.run.threads);
    tch::set_num_threads(threads);
    let profile = limit::apply_limit(config, device)?;
    let folder = open_folder(&order)?;
    say(&format!("output in {}", folder.root().display()));
    say(&format!("device {device:?}, {threads} thread(s), seed {}", config.run.seed));
    match config.run.environment {
        EnvironmentKind::Market => {
            let mut market = prepare(config, say)?;
            let dataset = Arc::get_mut(&mut market.dataset).expect("nobody else has seen the market yet");
            dataset.enforce_budget(&store_options(config, Some(folder.streams())))?;
            let environment = MarketEnvironment::new(
                Arc::clone(&market.price_series),
                market.ranges(|split| split.train.clone()),
                market.rules,
                config.account.episode_bars,
            )?;
            let dataset = Arc::clone(&market.dataset);
            let identity = market.identity.clone();
            run(
                order,
                folder,
                device,
                profile,
                began,
                environment,
                dataset,
                identity,
                Evaluator::Market(Box::new(market)),
                say,
            )
        }
        EnvironmentKind::Cartpole => {
            let environment = CartPole::new();
            let dataset = Arc::new(Dataset::new(plain_views(environment.local_width()), Vec::new()));
            let evaluator = Evaluator::CartPole { seed: seed_of(config.run.seed, 3) };
            run(
                order,
                folder,
                device,
                profile,
                began,
                environment,
                dataset,
                "cartpole".to_owned(),
                evaluator,
                say,
            )
        }
    }
}

#[allow(clippy::too_many_arguments, reason = "the parts of a run, each made once and used once")]
fn run<E>(
    order: TrainRequest,
    folder: RunFolder,
    device: Device,
    profile: Option<MemoryProfile>,
    began: Instant,
    environment: E,
    dataset: Arc<Dataset>,
    data_identity: String,
    evaluator: Evaluator,
    say: &(dyn Fn(&str) + Sync),
) -> Result<Ended>
where
    E: Environment + Clone + Send,
    E::State: Send,
{
    let TrainRequest { config, resume, command_line, stop, .. } = order;
    let dqn = dqn_config(&config, environment.n_actions(), environment.local_width());
    let seed = config.run.seed;
    let local_width = environment.local_width();
    let environments = vec![environment; config.run.n_environments];
    let falls_over = (config.agent.epsilon_fraction * config.run.environment_steps as f64) as u64;
    let plan = ExplorationPlan {
        epsilon: EpsilonSchedule {
            start: config.agent.epsilon_start,
            end: config.agent.epsilon_end,
            falls_over,
        },
        mean_hold: config.agent.exploration_hold,
        learning_starts: config.agent.learning_starts as u64,
        seed: seed_of(seed, 1),
    };
    let mut actor = ActorLoop::new(environments, Arc::clone(&dataset), Network::new(&dqn), device, plan);
    let mut learner = Learner::new(dqn, Network::new(&dqn), Arc::clone(&dataset), device)?;
    if !config.memory.managed {
        // Copies of observations have no position under which an embedding could be kept.
        learner = learner.without_kept_embeddings();
    }
    say(&format!("{} parameters", learner.network().layout().n_parameters()));
    // The weights of the best validation and those that are tested, and the replay, are still to come.
    let growth_bytes =
        2 * learner.network().layout().flat_bytes() + crate::memory::plan::replay_bytes(&config, local_width);
    let checkpoint = resume.as_ref().and_then(|_| checkpoint::find(&folder.checkpoint()).ok());
    let resumed = checkpoint.as_deref().map(checkpoint::load_counters).transpose()?;
    let resumed = resumed.map(|counters| counters.micro_batch);
    let mut steps = limit::steps(&config, profile.as_ref(), growth_bytes, resumed)?;
    let system = limit::watch(&config, device, &mut steps)?;
    say(&format!("learner steps: {}", steps.step_config()));
    let mut learner = LearnerLoop::new(
        &config,
        learner,
        steps,
        Arc::clone(&dataset),
        &actor.seen(),
        seed_of(seed, 2),
        Some(folder.replay()),
    )?;

    let mut counters = Counters { data_identity: data_identity.clone(), ..Counters::default() };
    let mut best = None;
    let (metrics, events);
    if resume.is_some() && checkpoint.is_none() {
        say("it was stopped before its first checkpoint: it begins anew");
    }
    if let Some(path) = checkpoint {
        learner.let_replay_go()?;
        let saved = checkpoint::load::<E>(&path)?;
        if saved.counters.data_identity != data_identity {
            let problem = "was saved by a run over other bars; give the files of that run".to_owned();
            return Err(Error::File { path, problem });
        }
        counters = saved.counters;
        actor.restore(saved.actor);
        learner.restore(saved.learner, Arc::clone(&dataset))?;
        let [first_moment, second_moment] = &saved.tensors.moments;
        learner.learner_mut().restore(
            &saved.tensors.online,
            &saved.tensors.target,
            [first_moment, second_moment],
            counters.learner_steps,
        )?;
        learner.learner_mut().restore_loss_scale(LossScale::of_state(counters.loss_scale));
        best = saved.tensors.best.map(|best| best.to_device(device));
        metrics = MetricsWriter::resume(&folder.metrics(), counters.environment_steps)?;
        events = EventWriter::resume(folder.root(), counters.environment_steps)?;
        say(&format!("resumed at environment step {}", counters.environment_steps));
    } else {
        metrics = MetricsWriter::create(&folder.metrics())?;
        events = EventWriter::create(folder.root())?;
    }
    if let Some(system) = &system {
        system.add_buffer(learner.buffer());
    }
    // Only now does the folder hold this run: nothing that the user gave can be refused any more.
    write_aside(&folder.config(), config.to_toml().as_bytes())?;
    let state = RunState {
        greedy: Actor::new(Network::new(&dqn)),
        progress: Progress::new(config.run.environment_steps, false),
        window: Window::new(counters.environment_steps),
        seconds_before: counters.wall_seconds,
        began,
        folder,
        learner,
        system,
        evaluator,
        counters,
        best,
        metrics,
        events,
        stop,
        config,
    };
    let mut session = Session { actor, state };
    let ended = session.run()?;
    match ended {
        Ended::Interrupted => say(&format!(
            "interrupted and saved; go on with: plimsoll train --resume {}",
            session.state.folder.root().display()
        )),
        Ended::Done => summary::conclude(&mut session.state, &command_line, say)?,
    }
    Ok(ended)
}

fn open_folder(order: &TrainRequest) -> Result<RunFolder> {
    if let Some(resumed) = &order.resume {
        return RunFolder::open(resumed);
    }
    let root = order.config.run.out.clone().unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let millis = now.map_or(0, |since| since.as_millis() as i64);
        let kind = order.config.run.environment.word();
        Path::new("runs").join(format!("{kind}-{}", crate::format::utc(millis, "%Y%m%d-%H%M%S")))
    });
    if RunFolder::open(&root).is_ok() {
        let problem = "holds a run already: go on with it by --resume, or give another --out".to_owned();
        return Err(Error::File { path: root, problem });
    }
    RunFolder::create(&root)
}

/// The DQN that `config` describes, for an environment of so many actions and local numbers.
#[must_use]
pub fn dqn_config(config: &Config, n_actions: usize, local_width: usize) -> DqnConfig {
    let agent = &config.agent;
    let body = match config.run.environment {
        EnvironmentKind::Cartpole => Body::Plain,
        EnvironmentKind::Market => Body::Market {
            preset: match config.embedders.preset {
                EmbedderPreset::Compact => embedders::Preset::Compact,
                EmbedderPreset::Full => embedders::Preset::Full,
            },
            dropout: match config.embedders.dropout {
                config::Dropout::Fraction(fraction) => Some(fraction),
                config::Dropout::Preset => None,
            },
        },
    };
    DqnConfig {
        body,
        hidden: agent.hidden as i64,
        n_actions: n_actions as i64,
        local_width: local_width as i64,
        double: agent.double,
        dueling: agent.dueling,
        learning_rate: agent.learning_rate,
        max_gradient_norm: agent.max_gradient_norm,
        target_update: match agent.target_update {
            config::TargetUpdate::Periodic => TargetUpdate::Periodic { interval: agent.target_interval },
            config::TargetUpdate::Soft => TargetUpdate::Soft { tau: agent.target_tau },
        },
        reward_scale: agent.reward_scale,
        batch: agent.batch as i64,
        precision: match agent.precision {
            config::PrecisionChoice::F32 => Precision::F32,
            config::PrecisionChoice::Bf16 => Precision::Bf16,
            config::PrecisionChoice::F16 => Precision::F16,
        },
        offload_gradients: config.memory.offload_gradients,
        seed: seed_of(config.run.seed, 0),
    }
}

/// Seeds of the parts of a run, none of them another's.
fn seed_of(seed: u64, part: u64) -> u64 {
    seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(part.wrapping_mul(0xD1B5_4A32_D192_ED03))
}

/// How many threads compute.
#[must_use]
pub fn threads(wanted: usize) -> i32 {
    let threads =
        if wanted > 0 { wanted } else { std::thread::available_parallelism().map_or(1, usize::from) };
    threads as i32
}

/// The device that was chosen.
///
/// # Errors
/// [`Error::Config`] where a GPU was asked for and cannot be used.
pub fn device(choice: DeviceChoice, runtime: &Runtime) -> Result<Device> {
    match choice {
        DeviceChoice::Cpu => Ok(Device::Cpu),
        DeviceChoice::Auto => Ok(if runtime.cuda { Device::Cuda(0) } else { Device::Cpu }),
        DeviceChoice::Cuda(n) if runtime.cuda && i64::from(n) < tch::Cuda::device_count() => {
            Ok(Device::Cuda(n as usize))
        }
        DeviceChoice::Cuda(n) => Err(Error::Config {
            key: "run.device".to_owned(),
            problem: format!("there is no CUDA device {n} that can be used here; take `auto` or `cpu`"),
        }),
    }
}
