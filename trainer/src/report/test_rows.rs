//! The rows of a test: who was tested, how each did, and whether chance explains it.

use serde_json::{Map, Value, json};

use crate::format;
use crate::market::backtest::Backtest;
use crate::market::backtest::performance::{EquityCurve, Performance, t_of_difference};
use crate::report::html::Role;
use crate::run::evaluation::TestResult;
use crate::run::market_test::MarketTest;

/// The key of the agent among the rows of the test.
pub const AGENT: &str = "agent";
/// The key of the last weights.
pub const LAST: &str = "agent_last";
/// A shorter test than this says little per year: no number is annualised there without its error.
pub const SHORT_TEST_DAYS: f64 = 60.0;

/// One row of a market's test.
#[derive(Debug)]
pub struct TestRow<'a> {
    /// Its key in the summary.
    pub key: String,
    /// Its name in the report.
    pub label: String,
    /// Whose it is.
    pub role: Role,
    /// What it did; empty where only its measures were kept.
    pub backtests: &'a [Backtest],
    /// How it did.
    pub performance: Performance,
}

/// An account that the equity floor closed.
#[derive(Debug, Clone, PartialEq)]
pub struct Stopped {
    /// The instrument.
    pub instrument: String,
    /// Close of the bar at which the equity was below the floor, UTC.
    pub at_millis: i64,
}

impl TestRow<'_> {
    /// Where the equity floor closed its accounts, in order of time.
    #[must_use]
    pub fn stopped(&self) -> Vec<Stopped> {
        let one = |backtest: &Backtest| {
            let at_millis = *backtest.times_millis.get(backtest.terminated_at?)?;
            Some(Stopped { instrument: backtest.name.clone(), at_millis })
        };
        let mut stopped: Vec<Stopped> = self.backtests.iter().filter_map(one).collect();
        stopped.sort_by_key(|stopped| stopped.at_millis);
        stopped
    }

    /// When the equity floor stopped it, in words; none where it did not.
    #[must_use]
    pub fn stopped_words(&self) -> Option<String> {
        let stopped = self.stopped();
        let first = format::utc_minute(stopped.first()?.at_millis);
        Some(match (stopped.len(), self.backtests.len()) {
            (_, 1) => format!("stopped by the equity floor at {first} UTC"),
            (n, all) => {
                format!("stopped by the equity floor in {n} of {all} instruments, first at {first} UTC")
            }
        })
    }
}

impl MarketTest {
    /// The agent, its last weights, the baselines, those that the equity floor stopped without it, and the oracle where
    /// there is one.
    #[must_use]
    pub fn rows(&self) -> Vec<TestRow<'_>> {
        let row = |key: &str, label: &str, role, backtests| TestRow {
            key: key.to_owned(),
            label: label.to_owned(),
            role,
            backtests,
            performance: Performance::with_intervals(backtests),
        };
        let beside = |key: String, label: String, performance: &Performance| TestRow {
            key,
            label,
            role: Role::Beside,
            backtests: &[],
            performance: *performance,
        };
        let mut rows = vec![row(AGENT, AGENT, Role::Agent, self.agent.as_slice())];
        let last = self.last.unwrap_or(rows[0].performance);
        rows.push(beside(LAST.to_owned(), "agent, last weights".to_owned(), &last));
        for (baseline, backtests) in &self.baselines {
            rows.push(row(baseline.key(), baseline.label(), Role::Baseline, backtests));
        }
        for (baseline, performance) in &self.without_floor {
            let (key, label) = (format!("{}_without_floor", baseline.key()), baseline.label());
            rows.push(beside(key, format!("{label}, without the floor"), performance));
        }
        if let Some(oracle) = &self.oracle {
            rows.push(row("oracle", "oracle", Role::Oracle, &oracle.backtests));
        }
        rows
    }

    /// The t statistic of the agent's mean log return per bar over that of staying flat (0); none where its returns do
    /// not vary, such as those of an agent that never trades.
    #[must_use]
    pub fn t_statistic(&self) -> Option<f64> {
        t_of_difference(&EquityCurve::join(&self.agent), None)
    }

    /// Days between the first and the last mark of the test.
    #[must_use]
    pub fn days(&self) -> f64 {
        let times = || {
            self.agent.iter().flat_map(|one| [one.times_millis.first(), one.times_millis.last()]).flatten()
        };
        let (first, last) = (times().min().copied().unwrap_or(0), times().max().copied().unwrap_or(0));
        (last - first) as f64 / 86_400_000.0
    }

    /// The agent's result over `what`, and whether chance explains it, in one sentence.
    #[must_use]
    pub fn verdict(&self, what: &str) -> String {
        let performance = Performance::of_portfolio(&self.agent);
        let earned = format::signed_percent(performance.total_return);
        let t_test = match self.t_statistic() {
            _ if performance.trades == 0 => "it did not trade".to_owned(),
            None => format!("chance cannot be told from skill (t = {})", format::UNKNOWN),
            Some(t) => {
                let explains = if is_chance(t) { "explains" } else { "hardly explains" };
                let over_held = self
                    .t_over_buy_and_hold
                    .map_or_else(String::new, |t| format!(" over flat, {t:.1} over buy and hold"));
                format!("chance {explains} it (t = {t:.1}{over_held})")
            }
        };
        format!("{earned} over {what}, costs paid: {t_test}")
    }
}

/// Whether chance explains a t statistic: |t| < 2. Chance alone exceeds it about once in twenty times.
#[must_use]
pub fn is_chance(t_statistic: f64) -> bool {
    t_statistic.abs() < 2.0
}

/// Mean, standard deviation, lowest and highest.
#[must_use]
pub fn spread(values: &[f64]) -> [f64; 4] {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
    let lowest = values.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    [mean, variance.sqrt(), lowest, highest]
}

/// An annualised number with its error, such as `1.25 (-0.80 to 3.10)`; unknown where the error is.
#[must_use]
pub fn with_interval(value: f64, interval: Option<[f64; 2]>) -> String {
    match interval {
        Some([low, high]) => {
            format!("{} ({} to {})", format::fixed(value, 2), format::fixed(low, 2), format::fixed(high, 2))
        }
        None => format::UNKNOWN.to_owned(),
    }
}

/// The test, by agent and baseline.
#[must_use]
pub fn test_json(test: &TestResult) -> Value {
    match test {
        TestResult::Market(test) => {
            let mut rows = Map::new();
            for row in test.rows() {
                let mut json = json!(row.performance);
                let stopped = row.stopped();
                if !stopped.is_empty() {
                    let one = |one: &Stopped| json!({ "instrument": one.instrument, "time": format::utc(one.at_millis, "%Y-%m-%dT%H:%M:%SZ") });
                    json["stopped_by_equity_floor"] = stopped.iter().map(one).collect();
                }
                rows.insert(row.key, json);
            }
            if let (Some(oracle), Some(Value::Object(row))) = (&test.oracle, rows.get_mut("oracle")) {
                row.insert("expected_log_return".to_owned(), json!(oracle.expected_log_return));
            }
            for (key, t) in [
                ("excess_over_flat", test.t_statistic()),
                ("excess_over_buy_and_hold", test.t_over_buy_and_hold),
            ] {
                rows.insert(key.to_owned(), json!({ "t_statistic": t, "within_chance": t.map(is_chance) }));
            }
            Value::Object(rows)
        }
        TestResult::Episodes(test) => {
            let row = |returns: &[f64]| {
                let [mean, deviation, lowest, highest] = spread(returns);
                json!({
                    "episodes": returns.len(), "mean_return": mean, "deviation": deviation,
                    "lowest": lowest, "highest": highest,
                })
            };
            json!({ AGENT: row(&test.agent), LAST: row(test.last.as_ref().unwrap_or(&test.agent)) })
        }
    }
}

/// The agent's episodes, in one line, and those of the last weights.
#[must_use]
pub fn episode_lines(agent: &[f64], last: Option<&[f64]>) -> Vec<String> {
    let line = |who: &str, returns: &[f64]| {
        let [mean, deviation, lowest, highest] = spread(returns);
        format!(
            "{who}: mean return {mean:.1} over {} episodes (± {deviation:.1}, {lowest:.0} to {highest:.0})",
            returns.len()
        )
    };
    let last = match last {
        Some(last) => line("agent, last weights", last),
        None => "agent, last weights: the same, the last validation was the best".to_owned(),
    };
    vec![line(AGENT, agent), last]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A test of an agent whose equity goes as told, without trades.
    fn test(equity: &[f64]) -> MarketTest {
        MarketTest { agent: vec![backtest(equity)], ..MarketTest::default() }
    }

    fn backtest(equity: &[f64]) -> Backtest {
        Backtest {
            name: "t".to_owned(),
            times_millis: (0..).take(equity.len()).collect(),
            equity: equity.to_vec(),
            price: vec![1.0; equity.len()],
            position: vec![0; equity.len()],
            start_equity: 100.0,
            ..Backtest::default()
        }
    }

    #[test]
    fn returns_without_spread_have_no_t_statistic() {
        for equity in [&[100.0; 5][..], &[100.0], &[], &[100.0, 110.0], &[100.0, 110.0, 121.0, 133.1]] {
            let test = test(equity);
            assert_eq!(test.t_statistic(), None, "{equity:?}");
            let json = test_json(&TestResult::Market(Box::new(test)));
            let excess = &json["excess_over_flat"];
            assert!(excess["t_statistic"].is_null() && excess["within_chance"].is_null(), "{json}");
            assert!(json["agent"]["win_rate"].is_null(), "{json}");
        }
        let t = test(&[100.0, 101.0, 100.0, 102.0]).t_statistic().expect("the returns vary");
        assert!(t > 0.0 && is_chance(t), "{t}");
    }

    #[test]
    fn who_was_stopped_by_the_floor_and_when_is_in_the_row() {
        let mut test = test(&[100.0, 60.0, 49.0, 49.0]);
        test.agent[0].terminated_at = Some(2);
        test.agent[0].times_millis = vec![0, 300_000, 600_000, 900_000];
        let rows = test.rows();
        assert_eq!(rows[0].stopped_words().unwrap(), "stopped by the equity floor at 1970-01-01 00:10 UTC");
        assert_eq!(rows[1].stopped_words(), None);
        let json = test_json(&TestResult::Market(Box::new(test)));
        assert_eq!(json["agent"]["stopped_by_equity_floor"][0]["time"], "1970-01-01T00:10:00Z");
    }

    #[test]
    fn an_annualised_number_stands_with_its_error_or_not_at_all() {
        assert_eq!(with_interval(1.25, Some([-0.8, 3.1])), "1.25 (-0.80 to 3.10)");
        assert_eq!(with_interval(1.25, None), format::UNKNOWN);
    }
}
