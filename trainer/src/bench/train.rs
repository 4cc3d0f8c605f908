//! `plimsoll bench train`: rates of the learner, the actor and the environments.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use agents::Agent;
use agents::exploration::{EpsilonSchedule, ExplorationPlan};
use buffers::frames::Dataset;
use buffers::replay::TensorBatch;
use clap::Args;
use embedders::Preset;
use memsys::nn::activations::ActivationMode;
use memsys::nn::parameters::Weights;
use memsys::step::retry::StepRunner;
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;
use serde_json::{Value, json};
use tch::Device;

use crate::atomic_file;
use crate::bench::peers::OwnTurn;
use crate::bench::{median_seconds, peers};
use crate::config::Config;
use crate::console::{print, say};
use crate::envs::Environment;
use crate::envs::cartpole::CartPole;
use crate::envs::market::MarketEnvironment;
use crate::envs::observation::{Observation, observe, plain_views};
use crate::error::{Error, Result};
use crate::market::dataset::{Market, prepare};
use crate::resolve::{Parts, resolve_on, threads};
use crate::run::actor_loop::ActorLoop;
use crate::run::learner_loop::{LearnerLoop, LearningOptions};

/// Environments that acting is measured with.
const ACTING: [usize; 3] = [1, 16, 256];
/// TensorBatch of the learner, the configuration's default.
const BATCH: usize = 128;
/// Steps of a CartPole run, as the peer's script takes.
const CARTPOLE_STEPS: u64 = 8_000;

/// Learner samples/s, acting and environment steps/s.
///
/// On the CPU, over the synthetic market. `learner, plain` computes the target's embeddings anew for each batch.
/// `learner, embeddings kept` keeps them until the target changes, and its rate includes computing them: all
/// training positions once per target interval. Either can be the faster one.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  plimsoll bench train --json bench.json\n  plimsoll bench train --threads 1 --peers \
                        scripts --python .peers/bin/python\n\nPeers:\n  Their scripts are not part of this program. DIR holds two that you \
                        provide:\n  pytorch_learner.py --threads N --batch 128 prints learner_samples_per_second and \
                        act_1_per_second, act_16_per_second, act_256_per_second;\n  sb3_cartpole.py --threads N --steps \
                        8000 prints steps_per_second.\n  Each prints its numbers as one JSON object on its last line."
)]
pub struct BenchTrainArgs {
    /// Threads that compute.
    #[arg(long, value_name = "N", default_value_t = 1)]
    threads: usize,
    /// Also writes the numbers there.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Presets to measure.
    #[arg(long, value_delimiter = ',', default_value = "compact,full", value_name = "PRESET,…")]
    presets: Vec<String>,
    /// Repeats of each measurement; the median is printed.
    #[arg(long, value_name = "N", default_value_t = 5)]
    repeats: usize,
    /// Sets one key over the defaults, such as agent.micro_batch=32.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Takes turns with the peers' scripts in this folder; see Peers below.
    #[arg(long, value_name = "DIR")]
    peers: Option<PathBuf>,
    /// The Python that has the peers' packages.
    #[arg(long, value_name = "FILE", default_value = ".peers/bin/python")]
    python: PathBuf,
}

/// Runs the bench.
///
/// # Errors
/// Where a preset is not known, or a measurement fails.
pub fn run(args: &BenchTrainArgs) -> Result<()> {
    atomic_file::expect_folder(args.json.as_deref())?;
    if let Some(folder) = &args.peers {
        peers::expect_scripts(folder)?;
    }
    memsys::os::tune_malloc();
    memsys::libtorch::open()?;
    memsys::libtorch::count_tensors()?;
    let n_threads = threads(args.threads);
    memsys::libtorch::set_threads_once(n_threads)?;
    let mut rows = Vec::new();
    let parts = configuration(args, Preset::Compact, &[])?;
    let market = prepare(&parts.market, &say)?;
    say("measuring environments");
    rows.push(row(
        "environment steps, 16 environments, no network",
        environment_steps(&parts, &market, args.repeats)?,
        "steps/s",
    ));
    for word in &args.presets {
        let preset = match word.as_str() {
            "compact" => Preset::Compact,
            "full" => Preset::Full,
            _ => {
                let problem = format!("`{word}` is no preset: compact or full");
                return Err(Error::Config { key: "--presets".to_owned(), problem });
            }
        };
        say(&format!("measuring {word}"));
        rows.extend(learning(args, &market, preset, args.repeats)?);
        rows.extend(acting(args, &market, preset, args.repeats)?);
    }
    say("measuring CartPole");
    rows.push(row("cartpole, Stable-Baselines3's settings", cartpole(args.repeats)?, "steps/s"));
    let mut result = json!({ "threads": n_threads, "batch": BATCH, "repeats": args.repeats, "rows": rows });
    print(&table(n_threads, &rows));
    if let Some(folder) = &args.peers {
        let market = prepare(&configuration(args, Preset::Full, &[])?.market, &|_| ())?;
        let pairs = peers::run(folder, &args.python, || own_turn(args, &market))?;
        print(&peers::table(&pairs));
        result["peers"] = json!(pairs);
    }
    atomic_file::write_json(args.json.as_deref(), &result)
}

fn row(name: &str, value: f64, unit: &str) -> Value {
    json!({ "name": name, "value": value, "unit": unit })
}

fn table(n_threads: i32, rows: &[Value]) -> String {
    let mut text = format!("{n_threads} thread(s), batch {BATCH}, medians\n");
    for row in rows {
        let (name, unit) = (row["name"].as_str().unwrap_or(""), row["unit"].as_str().unwrap_or(""));
        let value = row["value"].as_f64().unwrap_or(f64::NAN);
        text.push_str(&format!("{name:<56} {:>14} {unit}\n", crate::format::count(value as u64)));
    }
    text
}

fn configuration(args: &BenchTrainArgs, preset: Preset, more: &[&str]) -> Result<Parts> {
    let mut sets = vec![format!("embedders.preset={}", preset.word())];
    sets.extend(args.set.iter().cloned());
    sets.extend(more.iter().map(|&set| set.to_owned()));
    resolve_on(Device::Cpu, &Config::load(None, &sets)?)
}

fn market_environment(parts: &Parts, market: &Market) -> Result<MarketEnvironment> {
    let ranges = market.ranges(|split| split.train.clone());
    MarketEnvironment::new(Arc::clone(&market.price_series), ranges, market.rules, parts.market.episode_bars)
}

/// Steps per second of 16 environments with random actions, local rows written.
fn environment_steps(parts: &Parts, market: &Market, n_repeats: usize) -> Result<f64> {
    const ROUNDS: usize = 50_000;
    let mut rng = Pcg64Mcg::seed_from_u64(1);
    let mut environments = vec![market_environment(parts, market)?; 16];
    environments.iter_mut().for_each(|environment| environment.reset(&mut rng));
    let actions: Vec<usize> = (0..1024).map(|_| rng.random_range(0..3)).collect();
    let mut local = [0f32; crate::market::account::ACCOUNT_WIDTH];
    let mut checksum = 0f32;
    let seconds = median_seconds(n_repeats, || {
        for vector_step in 0..ROUNDS {
            for (i, environment) in environments.iter_mut().enumerate() {
                let step = environment.step(actions[(vector_step * 7 + i) % actions.len()]);
                environment.write_local(&mut local);
                checksum += local[0];
                if step.ends_episode() {
                    environment.reset(&mut rng);
                }
            }
        }
        Ok(())
    })?;
    std::hint::black_box(checksum);
    Ok((ROUNDS * 16) as f64 / seconds)
}

/// A learner loop whose replay holds random play.
pub(super) fn filled(parts: &Parts, market: &Market, agent: Box<dyn Agent>) -> Result<LearnerLoop> {
    let environments = vec![market_environment(parts, market)?; parts.run.n_environments];
    let policy = parts.agent.policy();
    let weights = Weights::zeros(policy.layout(), Device::Cpu)?;
    let epsilon = EpsilonSchedule { start: 1.0, end: 1.0, falls_over: 0 };
    let random = ExplorationPlan { epsilon, mean_hold: 1, random_environment_steps: u64::MAX, seed: 1 };
    let dataset = Arc::clone(&market.dataset);
    let mut actor = ActorLoop::new(environments, Arc::clone(&dataset), policy, Device::Cpu, random);
    let steps = StepRunner::fixed(parts.learning.pace.micro_batch);
    let mut learner = learner_loop(parts, agent, steps, dataset, &actor.observations(), 2)?;
    while learner.replay().len() < 20_000 {
        learner.take(&actor.advance(&weights)?)?;
    }
    Ok(learner)
}

fn learner_loop(
    parts: &Parts,
    agent: Box<dyn Agent>,
    steps: StepRunner,
    dataset: Arc<Dataset>,
    observations: &[Observation],
    seed: u64,
) -> Result<LearnerLoop> {
    let options = LearningOptions { seed, ..parts.learning.clone() };
    let activations = parts.memory.activations(ActivationMode::Keep);
    LearnerLoop::new(options, agent, steps, activations, dataset, observations)
}

/// Target interval of a learner whose target never changes while it is measured: all its embeddings are cached.
const ENDLESS: &str = "agent.target_interval=1000000000000";

fn learning(args: &BenchTrainArgs, market: &Market, preset: Preset, n_repeats: usize) -> Result<Vec<Value>> {
    let parts = configuration(args, preset, &[])?;
    let agent = |parts: &Parts| parts.agent.agent(Arc::clone(&market.dataset), Device::Cpu);
    let mut without = agent(&parts)?;
    without.disable_caches();
    let mut plain = filled(&parts, market, without)?;
    let plain_seconds = median_seconds(n_repeats, || plain.learn(0))?;

    // The step with every embedding at hand, and what computing them costs.
    let endless = configuration(args, preset, &[ENDLESS])?;
    let mut kept = filled(&endless, market, agent(&endless)?)?;
    let mut rng = Pcg64Mcg::seed_from_u64(3);
    let pace = parts.learning.pace;
    let batch: TensorBatch = kept.replay().sample(pace.batch, 0.4, &mut rng)?;
    let kept_seconds = median_seconds(n_repeats, || Ok(kept.agent_mut().step(&batch, pace.micro_batch)?))?;
    let n_timed = if preset == Preset::Full { 512 } else { 8_192 };
    let first = market.splits[0].train.start.next_multiple_of(64);
    let policy = parts.agent.policy();
    let weights = Weights::initial(policy.layout(), 1, Device::Cpu)?;
    let fill_seconds = median_seconds(n_repeats, || {
        Ok(policy.embed_range(&weights, &market.dataset, 0, first..first + n_timed)?)
    })?;
    let n_positions: usize = market.splits.iter().map(|split| split.train.len()).sum();
    // Every position is embedded once in a target interval.
    let interval = target_interval(args)?;
    let amortised = kept_seconds + fill_seconds / n_timed as f64 * n_positions as f64 / interval;
    let (name, samples) = (preset.word(), pace.batch as f64);
    Ok(vec![
        row(
            &format!("{name}: learner, embeddings kept for {interval} steps"),
            samples / amortised,
            "samples/s",
        ),
        row(&format!("{name}: learner, plain"), samples / plain_seconds, "samples/s"),
        row(&format!("{name}: positions embedded in blocks"), n_timed as f64 / fill_seconds, "positions/s"),
    ])
}

/// Learner steps from one change of the target network to the next.
fn target_interval(args: &BenchTrainArgs) -> Result<f64> {
    let values = Config::load(None, &args.set)?.values();
    let of = |name: &str| values.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    Ok(match of("agent.target_update") {
        Some(toml::Value::String(word)) if word == "soft" => 1.0,
        _ => of("agent.target_interval").and_then(|value| value.as_integer()).map_or(1.0, |n| n as f64),
    })
}

fn acting(args: &BenchTrainArgs, market: &Market, preset: Preset, n_repeats: usize) -> Result<Vec<Value>> {
    let policy = configuration(args, preset, &[])?.agent.policy();
    let weights = Weights::initial(policy.layout(), 1, Device::Cpu)?;
    let range = &market.splits[0].train;
    let mut rows = Vec::new();
    for n in ACTING {
        // The environments are spread over the range and advance by one bar per round.
        let apart = range.len() / n;
        let n_rounds = if preset == Preset::Full { (64 / n).max(2) } else { (256 / n).max(4) };
        let mut bar = 0;
        let seconds = median_seconds(n_repeats, || {
            for _ in 0..n_rounds {
                let observation = |i: usize| Observation {
                    instrument: 0,
                    t: (range.start + (i * apart + bar) % range.len()) as u32,
                    local: vec![0.1; crate::market::account::ACCOUNT_WIDTH],
                };
                let observations: Vec<Observation> = (0..n).map(observation).collect();
                policy.greedy(&weights, &observe(&market.dataset, &observations, Device::Cpu)?)?;
                bar += 1;
            }
            Ok(())
        })?;
        rows.push(row(
            &format!("{}: acting, {n} environment(s)", preset.word()),
            (n * n_rounds) as f64 / seconds,
            "observations/s",
        ));
    }
    Ok(rows)
}

/// Steps per second of CartPole as the peer's script runs it: plain DQN, 256 × 256, batch 64, one update per step.
fn cartpole(n_repeats: usize) -> Result<f64> {
    let sets = [
        "run.environment=cartpole",
        "agent.double=false",
        "agent.dueling=false",
        "agent.n_step=1",
        "agent.learning_rate=2.3e-3",
        "agent.batch=64",
        "agent.micro_batch=64",
        "agent.hidden=256",
        "agent.target_update=periodic",
        "agent.target_interval=10",
        "agent.learning_starts=1000",
        "agent.samples_per_insert=64",
        "replay.prioritized=false",
    ];
    let parts = resolve_on(Device::Cpu, &Config::load(None, &sets.map(str::to_owned))?)?;
    let mut rates = Vec::new();
    for seed in 0..n_repeats as u64 {
        let environment = CartPole::new();
        let dataset = Arc::new(Dataset::new(plain_views(environment.local_width()), Vec::new()));
        let plan = ExplorationPlan {
            epsilon: EpsilonSchedule { start: 1.0, end: 0.04, falls_over: CARTPOLE_STEPS * 16 / 100 },
            mean_hold: 1,
            random_environment_steps: parts.exploration.random_environment_steps,
            seed,
        };
        let mut actor =
            ActorLoop::new(vec![environment], Arc::clone(&dataset), parts.agent.policy(), Device::Cpu, plan);
        let agent = parts.agent.agent(Arc::clone(&dataset), Device::Cpu)?;
        let steps = StepRunner::fixed(parts.learning.pace.micro_batch);
        let mut learner = learner_loop(&parts, agent, steps, dataset, &actor.observations(), seed)?;
        let began = Instant::now();
        while actor.environment_steps() < CARTPOLE_STEPS {
            let vector_step = actor.advance(learner.agent().online())?;
            learner.take(&vector_step)?;
            for _ in 0..learner.n_due() {
                learner.learn(vector_step.environment_steps)?;
            }
        }
        rates.push(CARTPOLE_STEPS as f64 / began.elapsed().as_secs_f64());
    }
    Ok(crate::bench::median(&mut rates))
}

/// The full networks' learner and acting, and a CartPole run, for a turn with the peers.
fn own_turn(args: &BenchTrainArgs, market: &Market) -> Result<OwnTurn> {
    let learner = learning(args, market, Preset::Full, 3)?;
    let acting = acting(args, market, Preset::Full, 3)?;
    let value = |rows: &[Value], i: usize| rows[i]["value"].as_f64().unwrap_or(f64::NAN);
    Ok(OwnTurn {
        learner: value(&learner, 0),
        acting: std::array::from_fn(|i| value(&acting, i)),
        cartpole: cartpole(1)?,
    })
}
