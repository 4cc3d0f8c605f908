//! The configurations that the bench runs: random in every dimension at once, and the same for the same seed.
//!
//! A dimension deals its values as a pack of cards: shuffled, and dealt to the end before the next shuffled pack. So each
//! value comes up in any run of configurations as long as two packs, and the first ones of a long list are a short list.

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

use crate::bench::limit::bar_files::Source;

/// The networks, with the pack that their batches come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Networks {
    Compact,
    Full,
    Cartpole,
}

/// Twice as many small networks as large ones, which take ten times as long.
const NETWORKS: [Networks; 5] =
    [Networks::Compact, Networks::Full, Networks::Compact, Networks::Cartpole, Networks::Full];

/// Transitions per learner step, and the most that go through the network at once.
const BATCHES: [(u64, u64); 5] = [(32, 32), (128, 128), (128, 32), (256, 256), (512, 64)];
const BATCHES_OF_FULL: [(u64, u64); 4] = [(16, 16), (32, 32), (64, 16), (96, 48)];

/// Values of the dimensions that are independent of all others: a word for the table, and the settings it stands for.
type Values = &'static [(&'static str, &'static [&'static str])];

const DIMENSIONS: [Values; 8] = [
    &[("f32", &[]), ("bf16", &["agent.precision=bf16"])],
    &[("in turns", &[]), ("concurrent", &["run.synchronous=false"])],
    &[("1 thread", &["run.threads=1"]), ("2 threads", &["run.threads=2"])],
    &[
        ("hot", &[]),
        ("compressed", &["replay.tier=compressed", "replay.memory_budget=0"]),
        ("mapped", &["replay.tier=mapped"]),
        ("mapped above 0", &["replay.tier=mapped", "replay.mmap_above=0"]),
    ],
    &[
        ("no prefetch", &[]),
        ("ahead", &["replay.prefetch=ahead"]),
        ("prefetch in turn", &["replay.prefetch=synchronous"]),
    ],
    &[
        ("auto", &[]),
        ("keep", &["memory.activations=keep"]),
        ("recompute", &["memory.activations=recompute"]),
        ("spill", &["memory.activations=spill"]),
    ],
    &[
        ("capacity 5k", &["replay.capacity=5000"]),
        ("capacity 50k", &["replay.capacity=50000"]),
        ("capacity 1m", &["replay.capacity=1000000"]),
    ],
    &[
        ("target every 2", &["agent.target_interval=2"]),
        ("target every 1000", &["agent.target_interval=1000"]),
        ("soft target", &["agent.target_update=soft"]),
    ],
];

const N_ENVIRONMENTS: [u64; 6] = [1, 4, 16, 64, 256, 1024];

/// Random steps before learning begins, at least. They take no network, and fill chunks of rows in every tier.
const RANDOM_STEPS: u64 = 4096;

/// One configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Configuration {
    /// Its place in the list, from 1.
    pub(super) number: usize,
    /// What sets it apart, in words.
    pub(super) words: String,
    /// Its settings, as `--set` takes them. The bars and the folder are not among them.
    pub(super) settings: Vec<String>,
    /// Where its bars come from. `None` in an environment without bars.
    pub(super) source: Option<Source>,
    /// Whether the bars are few, because the networks are large.
    pub(super) is_short: bool,
    /// Environment steps after which it is interrupted and resumed, if it is.
    pub(super) interrupted_after: Option<u64>,
}

/// The configurations of a seed. Those of a smaller `n` are the first of these.
pub(super) fn configurations(seed: u64, n: usize) -> Vec<Configuration> {
    let mut rng = Pcg64Mcg::seed_from_u64(seed);
    // Each pack has a generator of its own, so that which values are dealt does not change how the others are shuffled.
    let mut pack = || Pcg64Mcg::seed_from_u64(rng.random());
    let mut networks = Pack::new(&NETWORKS, pack());
    let mut batches = Pack::new(&BATCHES, pack());
    let mut batches_of_full = Pack::new(&BATCHES_OF_FULL, pack());
    let mut environments = Pack::new(&N_ENVIRONMENTS, pack());
    let mut sources = Pack::new(&Source::ALL, pack());
    let mut interruptions = Pack::new(&[false, true], pack());
    let mut dimensions: Vec<_> = DIMENSIONS.iter().map(|values| Pack::new(values, pack())).collect();
    (1..=n)
        .map(|number| {
            let networks = networks.deal();
            let is_full = networks == Networks::Full;
            let is_market = networks != Networks::Cartpole;
            let (batch, micro_batch) = if is_full { batches_of_full.deal() } else { batches.deal() };
            let n_environments = environments.deal();
            let source = is_market.then(|| sources.deal());
            let is_interrupted = interruptions.deal();
            let (network, of_network): (_, &[&str]) = match networks {
                Networks::Compact => ("compact", &[]),
                Networks::Full => ("full", &["embedders.preset=full"]),
                Networks::Cartpole => ("cartpole", &["run.environment=cartpole"]),
            };
            let mut words = vec![network.to_owned()];
            let mut settings: Vec<String> = of_network.iter().map(|set| (*set).to_owned()).collect();
            for pack in &mut dimensions {
                let (word, sets) = pack.deal();
                words.push(word.to_owned());
                settings.extend(sets.iter().map(|set| (*set).to_owned()));
            }
            words.push(format!("{n_environments} env"));
            words.push(format!("batch {batch}/{micro_batch}"));
            words.extend(source.map(|source| source.word().to_owned()));
            let length = Length::new(is_full, n_environments, batch);
            settings.extend(length.settings());
            settings.push(format!("agent.batch={batch}"));
            settings.push(format!("agent.micro_batch={micro_batch}"));
            if source == Some(Source::Synthetic) {
                settings.push(format!("synthetic.days={}", if is_full { 12 } else { 90 }));
            }
            if is_interrupted {
                words.push("resumed".to_owned());
            }
            let interrupted_after = is_interrupted.then(|| length.interrupted_after());
            let words = words.join(", ");
            Configuration { number, words, settings, source, is_short: is_full, interrupted_after }
        })
        .collect()
}

/// Values that are dealt in random order, each once before any comes again.
struct Pack<T> {
    values: Vec<T>,
    left: Vec<T>,
    rng: Pcg64Mcg,
}

impl<T: Copy> Pack<T> {
    fn new(values: &[T], rng: Pcg64Mcg) -> Self {
        Self { values: values.to_vec(), left: Vec::new(), rng }
    }

    fn deal(&mut self) -> T {
        loop {
            if let Some(value) = self.left.pop() {
                return value;
            }
            self.left.clone_from(&self.values);
            self.left.shuffle(&mut self.rng);
        }
    }
}

/// How long a run is: a few learner steps, with an evaluation and a checkpoint between them.
#[derive(Debug, Clone, Copy)]
struct Length {
    n_environments: u64,
    batch: u64,
    random_rounds: u64,
    acting_rounds: u64,
    learner_steps: u64,
}

impl Length {
    fn new(is_full: bool, n_environments: u64, batch: u64) -> Self {
        let (acted, fewest_rounds, learner_steps) = if is_full { (32, 8, 3) } else { (512, 16, 8) };
        Self {
            n_environments,
            batch,
            random_rounds: RANDOM_STEPS.div_ceil(n_environments),
            acting_rounds: (acted / n_environments).max(fewest_rounds),
            learner_steps,
        }
    }

    fn settings(&self) -> Vec<String> {
        let Self { n_environments, batch, random_rounds, acting_rounds, learner_steps } = *self;
        let rounds = random_rounds + acting_rounds;
        // Two vector steps pass before the first transition of three steps is inserted.
        let n_inserted = (acting_rounds - 2) * n_environments;
        let samples_per_insert = (learner_steps * batch) as f64 / n_inserted as f64 * 1.001;
        let steps = |key: &str, rounds: u64| format!("{key}={}", rounds * n_environments);
        vec![
            format!("run.n_environments={n_environments}"),
            steps("run.environment_steps", rounds),
            steps("agent.learning_starts", random_rounds),
            format!("agent.samples_per_insert={samples_per_insert}"),
            steps("run.checkpoint_interval_steps", rounds - acting_rounds / 3),
            // One before learning begins, so that the weights of the best validation are held in the one in its midst.
            steps("run.evaluation_interval_steps", (rounds - acting_rounds / 4) / 2),
            "agent.epsilon_start=0.1".to_owned(),
            "data.train_fraction=0.8".to_owned(),
            "data.validation_fraction=0.1".to_owned(),
            "memory.monitoring_interval=0.5".to_owned(),
            // An actor that runs far ahead would end before most learner steps, and so take no memory beside them.
            "run.queue_batches=1".to_owned(),
        ]
    }

    /// When learning has begun and is not done.
    fn interrupted_after(&self) -> u64 {
        (self.random_rounds + self.acting_rounds / 2) * self.n_environments
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const N: usize = 40;

    #[test]
    fn a_seed_gives_the_same_configurations_and_another_seed_gives_others() {
        let one = configurations(1, N);
        assert_eq!(one, configurations(1, N));
        assert_eq!(one[..7], configurations(1, 7), "a short list is the beginning of a long one");
        let shared =
            configurations(2, N).iter().filter(|other| one.iter().any(|it| it.words == other.words)).count();
        assert_eq!(shared, 0);
    }

    #[test]
    fn forty_configurations_have_each_value_of_each_dimension() {
        for seed in 0..20 {
            let all = configurations(seed, N);
            let has = |word: &str| all.iter().any(|it| it.words.split(", ").any(|one| one == word));
            let words =
                DIMENSIONS.iter().flat_map(|values| values.iter().map(|(word, _)| (*word).to_owned()));
            let batches = BATCHES.iter().chain(&BATCHES_OF_FULL);
            let of_numbers = N_ENVIRONMENTS
                .iter()
                .map(|n| format!("{n} env"))
                .chain(batches.map(|(batch, micro_batch)| format!("batch {batch}/{micro_batch}")));
            let named = ["compact", "full", "cartpole", "resumed"].into_iter().map(str::to_owned);
            let sources = Source::ALL.iter().map(|source| source.word().to_owned());
            for word in words.chain(of_numbers).chain(named).chain(sources) {
                assert!(has(&word), "seed {seed} has no `{word}`");
            }
        }
    }

    #[test]
    fn every_configuration_is_one_that_the_program_takes_and_saves_evaluates_and_learns_in_its_midst() {
        for seed in 0..20 {
            for it in configurations(seed, N) {
                let config = Config::load(None, &it.settings).unwrap();
                let (run, pace) = (&config.run, config.agent.pace());
                let n = run.environment_steps;
                let inserted = n - 2 * run.n_environments as u64 - pace.learning_starts as u64;
                let learned = (inserted as f64 * pace.samples_per_insert / pace.batch as f64) as u64;
                assert!((3..=8).contains(&learned), "{learned} learner steps: {}", it.words);
                let saved = run.checkpoint_interval_steps;
                assert!(saved < n && saved * 2 > n, "once before the end: {}", it.words);
                let evaluated = run.evaluation_interval_steps;
                assert!(evaluated * 2 < n && evaluated * 3 > n, "twice before the end: {}", it.words);
                let second = evaluated * 2;
                assert!(second > pace.learning_starts as u64, "once in the midst of learning: {}", it.words);
                assert!(config.replay.capacity >= pace.learning_starts, "{}", it.words);
                let interrupted = it.interrupted_after.unwrap_or(pace.learning_starts as u64);
                assert!((pace.learning_starts as u64..n).contains(&interrupted), "{}", it.words);
            }
        }
    }
}
