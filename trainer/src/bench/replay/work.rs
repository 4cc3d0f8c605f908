//! The work that the rows measure: what sixteen market environments write, and replays filled with it.
//!
//! Bars and features are the program's own synthetic market, so rows compress as a market's do. An observation is
//! the reference's 817 numbers (structure 48 × 8, tactical 60 × 7, regime 8, low-volume node 5) and the account's 8.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use buffers::frames::{Dataset, Instrument, ObservationRef, View};
use buffers::replay::n_step::{Accumulator, Ending};
use buffers::replay::{Replay, ReplayOptions, StoreOptions, TensorBatch, Tier, Transition};
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

use crate::config::Config;
use crate::console::say;
use crate::envs::Environment;
use crate::envs::market::MarketEnvironment;
use crate::error::Result;
use crate::market::account::ACCOUNT_WIDTH;
use crate::market::dataset::{Market, prepare};
use crate::market::features::REGIME_WIDTH;
use crate::resolve::market_options;

/// Environments that write.
pub(super) const N_ENVIRONMENTS: usize = 16;
/// Steps of a transition.
const N_STEP: usize = 3;
/// α.
pub(super) const PRIORITY_EXPONENT: f64 = 0.6;
/// β.
pub(super) const IMPORTANCE_SAMPLING_EXPONENT: f64 = 0.4;
/// Calendar days of the synthetic market: 62,500 decisions, so that sixteen environments pass over each about once
/// in a million transitions.
const DAYS: u32 = 306;
/// Bars for which a random action is held, on average.
const MEAN_HOLD: f64 = 24.0;
/// Transitions that are played before they are written.
const BLOCK: usize = 1 << 14;
/// TD errors at hand.
const N_ERRORS: usize = 1 << 16;

/// A row of an environment's local numbers.
pub(super) type Local = [f32; ACCOUNT_WIDTH];

/// What the environments write, in order: a local row or a transition over rows that were written.
#[derive(Debug, Clone, Copy)]
pub(super) enum Write {
    /// A row of an environment.
    Local(u16, Local),
    /// A transition.
    Transition(Transition),
}

/// The market, and its streams as the rows see them.
pub(super) struct Work {
    market: Market,
    episode_bars: u32,
    dataset: Dataset,
    folder: PathBuf,
}

impl Work {
    /// Makes the market; files go to `folder`.
    pub(super) fn new(folder: &Path) -> Result<Self> {
        Self::of_days(folder, DAYS)
    }

    /// A market of `days` calendar days.
    pub(super) fn of_days(folder: &Path, days: u32) -> Result<Self> {
        let config = Config::load(None, &[format!("synthetic.days={days}")])?;
        let options = market_options(&config)?;
        let market = prepare(&options, &say)?;
        let dataset = observed(&market.dataset);
        let (episode_bars, folder) = (options.episode_bars, folder.to_path_buf());
        Ok(Self { market, episode_bars, dataset, folder })
    }

    /// The streams as the rows see them.
    pub(super) fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    /// Decisions of the streams.
    pub(super) fn n_decisions(&self) -> usize {
        self.market.splits.iter().map(|split| split.test.end - split.train.start).sum()
    }

    /// Environments at their first step.
    pub(super) fn play(&self, seed: u64) -> Result<Play> {
        let ranges = self.market.ranges(|split| split.train.start..split.test.end);
        let price_series = Arc::clone(&self.market.price_series);
        let environment = MarketEnvironment::new(price_series, ranges, self.market.rules, self.episode_bars)?;
        Ok(Play::new(vec![environment; N_ENVIRONMENTS], seed))
    }

    /// A replay of `capacity` transitions and its streams in `tier`, filled by a play that can go on.
    pub(super) fn filled(&self, capacity: usize, tier: Tier) -> Result<(Filled, Play)> {
        let mut dataset = self.dataset.clone();
        dataset.enforce_budget(&self.store(tier, "streams")?)?;
        let dataset = Arc::new(dataset);
        let options = ReplayOptions {
            capacity_transitions: capacity,
            priority_exponent: PRIORITY_EXPONENT,
            n_environments: N_ENVIRONMENTS,
            local_width: ACCOUNT_WIDTH,
            copies_observations: false,
            store: self.store(tier, "own")?,
        };
        let mut replay = Replay::new(&options, Arc::clone(&dataset))?;
        let mut play = self.play(1)?;
        play.fill(&mut replay, capacity)?;
        settled(&mut replay)?;
        Ok((Filled::of(replay, dataset)?, play))
    }

    /// Where chunks of `tier` go; files of an earlier row give way.
    pub(super) fn store(&self, tier: Tier, name: &str) -> Result<StoreOptions> {
        let file = (tier == Tier::Mapped).then(|| self.folder.join(format!("{name}.replay")));
        if let Some(path) = &file
            && path.exists()
        {
            std::fs::remove_file(path).map_err(crate::error::Error::io(path))?;
        }
        // With a budget of nothing every full chunk goes down.
        let budget_bytes = if tier == Tier::Hot { u64::MAX } else { 0 };
        Ok(StoreOptions { tier, budget_bytes, file, ..StoreOptions::default() })
    }

    /// The files that the mapped tier writes.
    pub(super) fn files(&self) -> [PathBuf; 2] {
        ["streams", "own"].map(|name| self.folder.join(format!("{name}.replay")))
    }
}

/// The market's streams under the reference's observation, whose regime is the newest row alone.
fn observed(dataset: &Dataset) -> Dataset {
    let newest = |view: &View| match view.width {
        REGIME_WIDTH if view.name == "regime" => View { length: 1, stride: 1, ..*view },
        _ => *view,
    };
    let views: Vec<View> = dataset.views().iter().map(newest).collect();
    let instrument = |instrument: u16| Instrument {
        streams: (0..views.len()).map(|view| dataset.stream(view, instrument).clone()).collect(),
        slow_row: (0..dataset.n_steps(instrument)).map(|t| dataset.slow_row(instrument, t as u32)).collect(),
        first_step: dataset.first_step(instrument),
    };
    let laid: Vec<Instrument> = (0..dataset.n_instruments() as u16).map(instrument).collect();
    Dataset::new(views, laid)
}

/// Sixteen environments with random actions.
#[derive(Debug)]
pub(super) struct Play {
    environments: Vec<MarketEnvironment>,
    accumulators: Vec<Accumulator>,
    actions: Vec<u8>,
    standing: Vec<ObservationRef>,
    n_local: Vec<u32>,
    has_begun: bool,
    rng: Pcg64Mcg,
}

impl Play {
    fn new(mut environments: Vec<MarketEnvironment>, seed: u64) -> Self {
        let mut rng = Pcg64Mcg::seed_from_u64(seed);
        environments.iter_mut().for_each(|environment| environment.reset(&mut rng));
        let n = environments.len();
        Self {
            environments,
            accumulators: vec![Accumulator::new(N_STEP, 0.99); n],
            actions: vec![1; n],
            standing: vec![ObservationRef::default(); n],
            n_local: vec![0; n],
            has_begun: false,
            rng,
        }
    }

    /// Plays until `n` transitions or a few more are complete, and gives out all that is to be written.
    pub(super) fn record(&mut self, n: usize) -> Vec<Write> {
        let mut writes = Vec::with_capacity(2 * n + 64);
        if !self.has_begun {
            self.has_begun = true;
            (0..self.environments.len())
                .for_each(|index| self.standing[index] = self.stand(index, &mut writes));
        }
        let mut n_complete = 0;
        while n_complete < n {
            for index in 0..self.environments.len() {
                if self.rng.random::<f64>() < 1.0 / MEAN_HOLD {
                    self.actions[index] = self.rng.random_range(0..3);
                }
                let action = self.actions[index];
                let step = self.environments[index].step(action.into());
                let ending = match (step.terminated, step.truncated) {
                    (true, _) => Ending::Terminated,
                    (false, true) => Ending::Truncated,
                    (false, false) => Ending::Goes,
                };
                let to = self.stand(index, &mut writes);
                let from = std::mem::replace(&mut self.standing[index], to);
                let noted =
                    self.accumulators[index].push(from, action, step.reward, to, ending, |transition| {
                        writes.push(Write::Transition(transition));
                        n_complete += 1;
                        Ok(())
                    });
                noted.expect("noting a transition is never refused");
                if step.ends_episode() {
                    self.environments[index].reset(&mut self.rng);
                    self.standing[index] = self.stand(index, &mut writes);
                }
            }
        }
        writes
    }

    /// Writes at least `n` transitions into `replay`.
    pub(super) fn fill(&mut self, replay: &mut Replay, n: usize) -> Result<()> {
        let wanted = replay.n_inserted() + n as u64;
        while replay.n_inserted() < wanted {
            write_many(replay, &self.record(BLOCK.min((wanted - replay.n_inserted()) as usize)))?;
            replay.enforce_budget()?;
        }
        Ok(())
    }

    fn stand(&mut self, index: usize, writes: &mut Vec<Write>) -> ObservationRef {
        let environment = &self.environments[index];
        let mut row = [0f32; ACCOUNT_WIDTH];
        environment.write_local(&mut row);
        writes.push(Write::Local(index as u16, row));
        let local = self.n_local[index];
        self.n_local[index] += 1;
        ObservationRef {
            instrument: environment.instrument(),
            environment: index as u16,
            t: environment.t(),
            local,
        }
    }
}

/// Waits until every chunk that is due has moved down a tier; another thread encodes some of them.
pub(super) fn settled(replay: &mut Replay) -> Result<()> {
    let mut n_still = 0;
    while n_still < 3 {
        n_still = if replay.enforce_budget()? == 0 { n_still + 1 } else { 0 };
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    Ok(())
}

/// Writes a block at once: its local rows, then its transitions.
pub(super) fn write_many(replay: &mut Replay, writes: &[Write]) -> Result<()> {
    for write in writes {
        if let Write::Local(environment, row) = write {
            replay.append_local(*environment, row)?;
        }
    }
    let transitions = writes.iter().filter_map(|write| match write {
        Write::Transition(transition) => Some(*transition),
        Write::Local(..) => None,
    });
    Ok(replay.insert_many(transitions)?)
}

/// Writes one after the other.
pub(super) fn write_each(replay: &mut Replay, writes: &[Write]) -> Result<()> {
    for write in writes {
        match write {
            Write::Local(environment, row) => {
                replay.append_local(*environment, row)?;
            }
            Write::Transition(transition) => replay.insert(*transition)?,
        }
    }
    Ok(())
}

/// A full replay, and what draws from it.
pub(super) struct Filled {
    pub(super) replay: Replay,
    pub(super) dataset: Arc<Dataset>,
    /// Errors as a learner gives them, to be taken in turn.
    pub(super) td_errors: Vec<f32>,
    pub(super) rng: Pcg64Mcg,
    batch: TensorBatch,
}

impl Filled {
    /// A replay that is filled already; each transition gets a priority of its own, as if learned from once.
    pub(super) fn of(replay: Replay, dataset: Arc<Dataset>) -> Result<Self> {
        let mut rng = Pcg64Mcg::seed_from_u64(2);
        let td_errors = (0..N_ERRORS).map(|_| rng.random::<f32>()).collect();
        let mut filled = Self { replay, dataset, td_errors, rng, batch: TensorBatch::default() };
        filled.spread_priorities()?;
        Ok(filled)
    }

    /// Draws a batch, with its observations as tensors, and gives it new priorities.
    pub(super) fn sample_and_update(&mut self, n: usize) -> Result<()> {
        let Self { replay, td_errors, rng, batch, .. } = self;
        replay.sample_into(n, IMPORTANCE_SAMPLING_EXPONENT, rng, batch)?;
        let first = rng.random_range(0..td_errors.len() - n);
        replay.update_priorities(&batch.slots, &td_errors[first..first + n])?;
        Ok(())
    }

    /// Bytes of replay and streams, all included.
    pub(super) fn bytes(&self) -> u64 {
        self.replay.bytes() + self.dataset.bytes()
    }

    fn spread_priorities(&mut self) -> Result<()> {
        let n = self.replay.len();
        for first in (0..n).step_by(N_ERRORS) {
            let slots: Vec<_> =
                (first..n.min(first + N_ERRORS)).map(|index| self.replay.slot(index)).collect();
            self.replay.update_priorities(&slots, &self.td_errors[..slots.len()])?;
        }
        Ok(())
    }
}
