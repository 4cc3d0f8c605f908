//! The trading environment. Many of them share the same bars.
//!
//! A [`PriceSeries`] is what an environment reads of an instrument: its 5-minute bars and their ATR. All
//! environments share one `Arc<[PriceSeries]>`; an environment itself is an account and a position in time, about
//! 200 bytes, so a thousand environments need no more bars than one. The learner finds the feature rows of the
//! observation in the frame streams by [`instrument`](Environment::instrument) and [`t`](Environment::t).
//!
//! An episode begins flat, at a decision drawn uniformly from all that leave at least a short episode. It ends when
//! the equity is below the floor (terminated), or after `episode_bars` steps or at the end of the range
//! (truncated). A position that is open at a truncation is marked, not closed.

use std::ops::Range;
use std::sync::Arc;

use rand::Rng;
use rand_pcg::Pcg64Mcg;
use serde::{Deserialize, Serialize};

use crate::envs::{Environment, Step};
use crate::error::{Error, Result};
use crate::market::account::{ACCOUNT_WIDTH, Account, AccountRules, N_ACTIONS, target_of};
use crate::market::price_series::PriceSeries;

/// A start leaves at least this many bars (four hours), where the range and the episode length allow it.
pub const SHORTEST_EPISODE_BARS: usize = 48;

/// A trading environment. A new one stands at the start of the first range that holds a decision.
#[derive(Debug, Clone)]
pub struct MarketEnvironment {
    price_series: Arc<[PriceSeries]>,
    ranges: Arc<[Range<usize>]>,
    rules: AccountRules,
    episode_bars: u32,
    /// Decisions in all ranges.
    n_decisions: u64,
    state: MarketState,
}

/// The state of an environment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MarketState {
    instrument: u16,
    t: u32,
    /// Steps taken in this episode.
    n_steps: u32,
    account: Account,
}

impl MarketEnvironment {
    /// An environment over `price_series`, deciding at the closes in `ranges`, one range for each price series.
    ///
    /// A decision at `t` is marked at bar `t + 1`, so a range ends at `bars.len() − 1` at the latest. A range may be
    /// empty; its price series is then never visited. An episode has at most `episode_bars` steps.
    ///
    /// # Errors
    /// [`Error::Config`] if the parts do not fit each other, if no range holds a decision, or if `episode_bars` is 0.
    pub fn new(
        price_series: Arc<[PriceSeries]>,
        ranges: Arc<[Range<usize>]>,
        rules: AccountRules,
        episode_bars: u32,
    ) -> Result<Self> {
        let fault = |key: &str, problem: String| Err(Error::Config { key: key.to_owned(), problem });
        if price_series.len() != ranges.len() || price_series.len() > usize::from(u16::MAX) {
            return fault("data", format!("{} ranges for {} instruments", ranges.len(), price_series.len()));
        }
        for (series, range) in price_series.iter().zip(ranges.iter()) {
            let n_bars = series.bars.len();
            let is_within = range.is_empty() || range.end < n_bars;
            if series.atr.len() != n_bars || !is_within || u32::try_from(n_bars).is_err() {
                let problem = format!("{}: decisions {range:?} do not fit {n_bars} bars", series.name);
                return fault("data", problem);
            }
        }
        if episode_bars == 0 {
            return fault("account.episode_bars", "an episode needs at least 1 bar".to_owned());
        }
        let Some(instrument) = ranges.iter().position(|range| !range.is_empty()) else {
            return fault("data", "no instrument has enough bars for a decision".to_owned());
        };
        let n_decisions = ranges.iter().map(|range| range.len() as u64).sum();
        let state = MarketState::begin(&price_series, &rules, instrument, ranges[instrument].start);
        Ok(MarketEnvironment { price_series, ranges, rules, episode_bars, n_decisions, state })
    }

    /// The account as of the last close.
    #[must_use]
    pub fn account(&self) -> &Account {
        &self.state.account
    }
}

impl MarketState {
    fn begin(price_series: &[PriceSeries], rules: &AccountRules, instrument: usize, t: usize) -> Self {
        let account = Account::new(rules, price_series[instrument].bars[t].close);
        // Both fit: `MarketEnvironment::new` has checked the counts.
        MarketState { instrument: instrument as u16, t: t as u32, n_steps: 0, account }
    }
}

impl Environment for MarketEnvironment {
    type State = MarketState;

    fn n_actions(&self) -> usize {
        N_ACTIONS
    }

    fn local_width(&self) -> usize {
        ACCOUNT_WIDTH
    }

    /// Picks a price series in proportion to the length of its range, then a start in it.
    fn reset(&mut self, rng: &mut Pcg64Mcg) {
        let mut decision = rng.random_range(0..self.n_decisions);
        let mut instrument = 0;
        while decision >= self.ranges[instrument].len() as u64 {
            decision -= self.ranges[instrument].len() as u64;
            instrument += 1;
        }
        let range = &self.ranges[instrument];
        let shortest = SHORTEST_EPISODE_BARS.min(self.episode_bars as usize).min(range.len());
        let n_starts = (range.len() - shortest + 1) as u64;
        let t = range.start + rng.random_range(0..n_starts) as usize;
        self.state = MarketState::begin(&self.price_series, &self.rules, instrument, t);
    }

    /// Decides at the close of bar `t` for short (0), flat (1) or long (2), and goes to the close of the next bar.
    #[inline]
    fn step(&mut self, action: usize) -> Step {
        let state = &mut self.state;
        let series = &self.price_series[usize::from(state.instrument)];
        let t = state.t as usize;
        let bar = &series.bars[t + 1];
        let outcome = state.account.advance(target_of(action), series.atr[t], bar, &self.rules);
        state.t += 1;
        state.n_steps += 1;
        let range_end = self.ranges[usize::from(state.instrument)].end;
        Step {
            reward: outcome.reward,
            penalty: outcome.penalty,
            terminated: outcome.terminated,
            truncated: t + 1 >= range_end || state.n_steps >= self.episode_bars,
        }
    }

    fn instrument(&self) -> u16 {
        self.state.instrument
    }

    fn t(&self) -> u32 {
        self.state.t
    }

    /// The eight numbers of [`Account::view`].
    fn write_local(&self, row: &mut [f32]) {
        let series = &self.price_series[usize::from(self.state.instrument)];
        let t = self.state.t as usize;
        row.copy_from_slice(&self.state.account.view(&series.bars[t], series.atr[t], &self.rules));
    }

    fn state(&self) -> MarketState {
        self.state
    }

    fn restore(&mut self, state: MarketState) {
        let range = self.ranges.get(usize::from(state.instrument));
        let is_inside =
            range.is_some_and(|range| range.start <= state.t as usize && state.t as usize <= range.end);
        assert!(is_inside, "the saved environment stands outside this one's bars");
        self.state = state;
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "one instrument has a list of one range")]
mod tests {
    use super::*;
    use crate::market::account::{FLAT, LONG, SHORT};
    use crate::market::bar::{Bar, DECISION_MILLIS};
    use rand::SeedableRng;

    fn series(name: &str, n_bars: usize, seed: u64, step_fraction: f64) -> PriceSeries {
        let mut rng = Pcg64Mcg::seed_from_u64(seed);
        let mut price = 100.0;
        let bars = (0..n_bars as i64).map(|i| {
            let open = price * (1.0 + rng.random_range(-step_fraction..step_fraction));
            let close = open * (1.0 + rng.random_range(-step_fraction..step_fraction));
            price = close;
            Bar {
                open_millis: i * DECISION_MILLIS,
                close_millis: (i + 1) * DECISION_MILLIS,
                open,
                high: open.max(close) * 1.001,
                low: open.min(close) * 0.999,
                close,
                volume: 1.0,
            }
        });
        PriceSeries {
            name: name.to_owned(),
            bars: bars.collect(),
            atr: vec![0.3; n_bars],
            first_decision: 10,
        }
    }

    fn environment(ranges: &[Range<usize>], episode_bars: u32) -> MarketEnvironment {
        let price_series: Vec<PriceSeries> =
            (0..ranges.len()).map(|i| series(&format!("t{i}"), 1_000, i as u64, 0.002)).collect();
        let rules = AccountRules { stop_atr: 4.0, drawdown_penalty: 0.1, ..AccountRules::default() };
        MarketEnvironment::new(price_series.into(), ranges.to_vec().into(), rules, episode_bars)
            .expect("fits")
    }

    #[test]
    fn rewards_of_an_episode_sum_to_its_log_return() {
        let mut rng = Pcg64Mcg::seed_from_u64(1);
        let mut environment = environment(&[10..999], 400);
        for _ in 0..20 {
            environment.reset(&mut rng);
            let start = environment.account().equity();
            let mut sum = 0.0;
            loop {
                let step = environment.step(rng.random_range(0..N_ACTIONS));
                sum += step.reward;
                if step.ends_episode() {
                    break;
                }
            }
            let log_return = (environment.account().equity() / start).ln();
            assert!((sum * 1e-4 - log_return).abs() <= 1e-9);
        }
    }

    #[test]
    fn a_restored_environment_has_the_same_future() {
        let mut rng = Pcg64Mcg::seed_from_u64(2);
        let mut environment = environment(&[10..999, 50..700], 300);
        environment.reset(&mut rng);
        let actions: Vec<usize> = (0..200).map(|_| rng.random_range(0..N_ACTIONS)).collect();
        for &action in &actions[..90] {
            environment.step(action);
        }
        let text = serde_json::to_string(&environment.state()).expect("writes");
        let saved_rng = serde_json::to_string(&rng).expect("writes");

        let future = |environment: &mut MarketEnvironment, mut rng: Pcg64Mcg| {
            let mut observations = Vec::new();
            for &action in &actions[90..] {
                let step = environment.step(action);
                let mut local = [0.0; ACCOUNT_WIDTH];
                environment.write_local(&mut local);
                observations.push((step, environment.instrument(), environment.t(), local));
                if step.ends_episode() {
                    environment.reset(&mut rng);
                }
            }
            environment.reset(&mut rng);
            (observations, environment.state())
        };
        let straight = future(&mut environment, rng);
        environment.restore(serde_json::from_str(&text).expect("reads"));
        let resumed = future(&mut environment, serde_json::from_str(&saved_rng).expect("reads"));
        assert_eq!(straight, resumed);
    }

    #[test]
    fn an_episode_is_truncated_at_its_length_and_at_the_end_of_the_range() {
        let mut rng = Pcg64Mcg::seed_from_u64(3);
        let mut environment = environment(&[10..999], 100);
        let mut lengths = Vec::new();
        for _ in 0..300 {
            environment.reset(&mut rng);
            let start = environment.t();
            let n_steps = loop {
                let step = environment.step(FLAT);
                assert_eq!(step.reward, 0.0);
                assert!(!step.terminated);
                if step.truncated {
                    break environment.t() - start;
                }
            };
            assert!(n_steps == 100 || environment.t() == 999);
            lengths.push(n_steps);
        }
        assert!(lengths.iter().all(|&n| n >= SHORTEST_EPISODE_BARS as u32));
        assert!(lengths.contains(&100) && lengths.iter().any(|&n| n < 100));
    }

    #[test]
    fn an_equity_under_the_floor_terminates_the_episode() {
        let price_series = [series("wild", 1_000, 5, 0.1)];
        let rules = AccountRules { stop_atr: 0.0, position_limit: 3.0, ..AccountRules::default() };
        let mut environment =
            MarketEnvironment::new(price_series.into(), [10..999].into(), rules, 10_000).expect("fits");
        let end = loop {
            let step = environment.step(SHORT);
            if step.ends_episode() {
                break step;
            }
        };
        assert!(end.terminated && !end.truncated);
        assert!(environment.account().equity() < 5_000.0);
    }

    #[test]
    fn starts_are_drawn_in_proportion_to_the_ranges_and_stay_inside() {
        let mut rng = Pcg64Mcg::seed_from_u64(4);
        let mut environment = environment(&[100..400, 0..0, 50..950, 7..8], 10_000);
        let mut counts = [0u32; 4];
        for _ in 0..12_010 {
            environment.reset(&mut rng);
            let instrument = usize::from(environment.instrument());
            counts[instrument] += 1;
            assert!(environment.ranges[instrument].contains(&(environment.t() as usize)));
        }
        assert_eq!(counts[1], 0);
        assert!((2_750..3_250).contains(&counts[0]), "{counts:?}");
        assert!((8_750..9_250).contains(&counts[2]), "{counts:?}");
        assert!((1..40).contains(&counts[3]), "{counts:?}");
    }

    #[test]
    fn an_action_decided_at_a_close_fills_at_the_next_open() {
        let mut environment = environment(&[10..999], 100);
        environment.rules.costs = crate::market::account::Costs::FREE;
        let step = environment.step(LONG);
        let bar = environment.price_series[0].bars[11];
        assert!((step.reward - 1e4 * (bar.close / bar.open).ln()).abs() < 1e-8);
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        let price_series: Arc<[PriceSeries]> = [series("a", 100, 1, 0.01)].into();
        let new = |ranges: &[Range<usize>], episode_bars| {
            MarketEnvironment::new(
                price_series.clone(),
                ranges.to_vec().into(),
                AccountRules::default(),
                episode_bars,
            )
        };
        assert!(new(&[10..99], 5).is_ok());
        assert!(new(&[10..100], 5).is_err());
        assert!(new(&[10..10], 5).is_err());
        assert!(new(&[10..99, 10..99], 5).is_err());
        assert!(new(&[10..99], 0).is_err());
    }
}
