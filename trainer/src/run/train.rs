//! `plimsoll train`: puts a run together, runs it, tells what came of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use agents::dqn::{Actor, Body, DqnConfig, EpsilonSchedule, Learner, Network, Precision, TargetUpdate};
use buffers::frames::Scenes;
use memsys::libtorch::Runtime;
use memsys::precision::LossScale;
use tch::Device;

use super::actor_loop::{ActorLoop, ExplorationPlan};
use super::checkpoint::{self, Counters};
use super::evaluation::{Judge, plain_views};
use super::events::EventWriter;
use super::files::write_aside;
use super::folder::RunFolder;
use super::learner_loop::{LearnerLoop, store_options};
use super::memory;
use super::metrics::MetricsWriter;
use super::progress::Progress;
use super::session::{Books, Ended, Session, Window};
use super::summary;
use super::survey::Survey;
use crate::cartpole::CartPole;
use crate::config::{self, Config, DeviceChoice, EmbedderPreset, EnvironmentKind};
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::market::environment::MarketEnvironment;
use crate::market::prepare::prepare;

/// What a run is told beside its configuration.
#[derive(Debug)]
pub struct Order {
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
pub fn train(order: Order, say: &(dyn Fn(&str) + Sync)) -> Result<Ended> {
    let began = Instant::now();
    let config = &order.config;
    let device = device(config.run.device, &order.runtime)?;
    if config.agent.precision == config::PrecisionChoice::F16 && !device.is_cuda() {
        let problem = "f16 is computed on a GPU alone; take bf16 or f32 on the CPU".to_owned();
        return Err(Error::Config { key: "agent.precision".to_owned(), problem });
    }
    let threads = threads(config.run.threads);
    memsys::libtorch::set_threads_once(threads)?;
    let survey = memory::draw_line(config, device)?;
    let folder = open_folder(&order)?;
    say(&format!("output in {}", folder.root().display()));
    say(&format!("device {device:?}, {threads} thread(s), seed {}", config.run.seed));
    match config.run.environment {
        EnvironmentKind::Market => {
            let mut market = prepare(config, say)?;
            let scenes = Arc::get_mut(&mut market.scenes).expect("nobody else has seen the market yet");
            scenes.settle(&store_options(config, Some(folder.streams())))?;
            let environment = MarketEnvironment::new(
                Arc::clone(&market.tapes),
                market.ranges(|split| split.train.clone()),
                market.rules,
                config.account.episode_bars,
            )?;
            let scenes = Arc::clone(&market.scenes);
            let identity = market.identity.clone();
            run(
                order,
                folder,
                device,
                survey,
                began,
                environment,
                scenes,
                identity,
                Judge::Market(Box::new(market)),
                say,
            )
        }
        EnvironmentKind::Cartpole => {
            let environment = CartPole::new();
            let scenes = Arc::new(Scenes::new(plain_views(environment.own_width()), Vec::new()));
            let judge = Judge::CartPole { seed: seed_of(config.run.seed, 3) };
            run(order, folder, device, survey, began, environment, scenes, "cartpole".to_owned(), judge, say)
        }
    }
}

#[allow(clippy::too_many_arguments, reason = "the parts of a run, each made once and used once")]
fn run<E>(
    order: Order,
    folder: RunFolder,
    device: Device,
    survey: Option<Survey>,
    began: Instant,
    environment: E,
    scenes: Arc<Scenes>,
    data_identity: String,
    judge: Judge,
    say: &(dyn Fn(&str) + Sync),
) -> Result<Ended>
where
    E: Environment + Clone + Send,
    E::State: Send,
{
    let Order { config, resume, command_line, stop, .. } = order;
    let dqn = dqn_config(&config, environment.n_actions(), environment.own_width());
    let seed = config.run.seed;
    let own_width = environment.own_width();
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
    let mut actor = ActorLoop::new(environments, Arc::clone(&scenes), Network::new(&dqn), device, plan);
    let mut learner = Learner::new(dqn, Network::new(&dqn), Arc::clone(&scenes), device)?;
    if !config.memory.managed {
        // Copies of observations have no position under which an embedding could be kept.
        learner = learner.without_kept_embeddings();
    }
    say(&format!("{} parameters", learner.network().layout().n_parameters()));
    // The weights of the best validation and those that are tested, and the replay, are still to come.
    let growth_bytes =
        2 * learner.network().layout().flat_bytes() + super::plan::replay_bytes(&config, own_width);
    let checkpoint = resume.as_ref().and_then(|_| checkpoint::find(&folder.checkpoint()).ok());
    let resumed = checkpoint.as_deref().map(checkpoint::load_counters).transpose()?;
    let resumed = resumed.map(|counters| counters.micro_batch);
    let mut steps = memory::steps(&config, survey.as_ref(), growth_bytes, resumed)?;
    let system = memory::watch(&config, device, &mut steps)?;
    say(&format!("learner steps: {}", steps.rung()));
    let mut learner = LearnerLoop::new(
        &config,
        learner,
        steps,
        Arc::clone(&scenes),
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
        learner.restore(saved.learner, Arc::clone(&scenes))?;
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
    let books = Books {
        greedy: Actor::new(Network::new(&dqn)),
        progress: Progress::new(config.run.environment_steps, false),
        window: Window::new(counters.environment_steps),
        seconds_before: counters.wall_seconds,
        began,
        folder,
        learner,
        system,
        judge,
        counters,
        best,
        metrics,
        events,
        stop,
        config,
    };
    let mut session = Session { actor, books };
    let ended = session.run()?;
    match ended {
        Ended::Interrupted => say(&format!(
            "interrupted and saved; go on with: plimsoll train --resume {}",
            session.books.folder.root().display()
        )),
        Ended::Done => summary::conclude(&mut session.books, &command_line, say)?,
    }
    Ok(ended)
}

fn open_folder(order: &Order) -> Result<RunFolder> {
    if let Some(resumed) = &order.resume {
        return RunFolder::open(resumed);
    }
    let root = order.config.run.out.clone().unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let millis = now.map_or(0, |since| since.as_millis() as i64);
        let kind = order.config.run.environment.word();
        Path::new("runs").join(format!("{kind}-{}", super::human::utc(millis, "%Y%m%d-%H%M%S")))
    });
    if RunFolder::open(&root).is_ok() {
        let problem = "holds a run already: go on with it by --resume, or give another --out".to_owned();
        return Err(Error::File { path: root, problem });
    }
    RunFolder::create(&root)
}

/// The DQN that `config` describes, for an environment of so many actions and own numbers.
#[must_use]
pub fn dqn_config(config: &Config, n_actions: usize, own_width: usize) -> DqnConfig {
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
        own_width: own_width as i64,
        double: agent.double,
        dueling: agent.dueling,
        learning_rate: agent.learning_rate,
        gradient_norm: agent.gradient_norm,
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
