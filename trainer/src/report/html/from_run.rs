//! From a finished run to what its report shows.

use std::path::PathBuf;

use crate::error::Result;
use crate::format;
use crate::market::backtest::performance::EquityCurve;
use crate::market::dataset::{Market as PreparedMarket, span_millis};
use crate::report::conclusion::{Conclusion, TEST_PART, reported_before_words, warnings};
use crate::report::html::paths::{lines_per_file, without_folders};
use crate::report::html::report_data::{
    Along, CostTable, Curve, DataPart, InstrumentRow, LearningCurve, Market, Memory, MonthTable,
    PerformanceRow, Positions, ReportData, ReturnsRow, Role, Tile,
};
use crate::report::test_details;
use crate::report::test_rows::{SHORT_TEST_DAYS, TestRow, is_chance, spread};
use crate::run::config::EnvironmentKind;
use crate::run::evaluation::{Evaluator, TestResult};
use crate::run::market_test::MarketTest;
use crate::run::train_loop::RunState;
use crate::telemetry::metrics;
use crate::telemetry::metrics::{Kind, Metrics};

/// Gathers the report of a finished run.
///
/// # Errors
/// Where the metrics cannot be read back.
pub fn data(state: &RunState, conclusion: &Conclusion, command_line: &str) -> Result<ReportData> {
    let rows = metrics::read_all(&state.folder.metrics())?;
    let mut report = ReportData {
        title: state.folder.root().file_name().unwrap_or_default().to_string_lossy().into_owned(),
        subtitle: subtitle(state),
        command_line: without_folders(command_line),
        seeds: vec![state.parts.run.seed],
        tiles: tiles(state, conclusion),
        facts: facts(state, conclusion),
        learning: learning(state, &rows),
        memory: Some(memory(&rows, conclusion)),
        limitations: [warnings(state, conclusion), limitations(conclusion)].concat(),
        configuration: Some(without_folders(&state.config_toml)),
        ..ReportData::default()
    };
    match (&state.evaluator, &conclusion.test) {
        (Evaluator::Market(market), TestResult::Market(test)) => {
            let seen = reported_before_words(&conclusion.reported_before);
            let seen = seen.map_or_else(String::new, |words| format!("; {words}"));
            report.verdict = Some(format!("{}{seen}", test.verdict(TEST_PART)));
            let files: Vec<PathBuf> =
                state.parts.market.sources.iter().map(|source| source.path.clone()).collect();
            report.data = lines_per_file(&market.notes, &files);
            report.parts = parts(market);
            report.market = Some(results(market, test));
        }
        (_, TestResult::Episodes(test)) => {
            let [mean, ..] = spread(&test.agent);
            report.verdict = Some(format!("Mean return {mean:.1} over {} episodes", test.agent.len()));
            report.returns = vec![returns_row("agent", Role::Agent, &test.agent)];
            let last = test.last.as_ref().unwrap_or(&test.agent);
            report.returns.push(returns_row("agent, last weights", Role::Beside, last));
        }
        (Evaluator::CartPole { .. }, TestResult::Market(_)) => unreachable!("a market's test needs a market"),
    }
    Ok(report)
}

fn returns_row(name: &str, role: Role, returns: &[f64]) -> ReturnsRow {
    let [mean, deviation, lowest, highest] = spread(returns);
    ReturnsRow {
        name: name.to_owned(),
        role,
        n_episodes: returns.len() as u64,
        mean,
        deviation,
        lowest,
        highest,
    }
}

fn subtitle(state: &RunState) -> String {
    let (name, sources) = (&state.parts.network_name, &state.parts.market.sources);
    match state.parts.run.environment {
        EnvironmentKind::Cartpole => format!("{name} · CartPole-v1"),
        EnvironmentKind::Market => {
            let data = match sources.len() {
                0 => "synthetic market".to_owned(),
                1 => without_folders(&sources[0].path.display().to_string()),
                n => format!("{n} instruments"),
            };
            format!("{name} · {data}")
        }
    }
}

fn tiles(state: &RunState, conclusion: &Conclusion) -> Vec<Tile> {
    let counters = &state.counters;
    let tile =
        |label: &str, value: String, note: Option<String>| Tile { label: label.to_owned(), value, note };
    let peak = conclusion.peak_resident_bytes;
    let replay = state.learner.replay();
    vec![
        tile("Environment steps", format::count(counters.environment_steps), None),
        tile("Learner steps", format::count(counters.learner_steps), None),
        tile("Wall time", format::duration(counters.wall_seconds), None),
        tile("Learner samples", format!("{}/s", format::count(conclusion.samples_per_second as u64)), None),
        tile(
            "Peak resident",
            format::bytes(peak),
            Some(format!(
                "{} of the memory limit",
                format::percent(peak as f64 / conclusion.limit_bytes as f64)
            )),
        ),
        tile(
            "Replay",
            format!("{} transitions", format::count(replay.len() as u64)),
            Some(format!("{} each", format::bytes(replay.bytes() / (replay.len() as u64).max(1)))),
        ),
    ]
}

fn facts(state: &RunState, conclusion: &Conclusion) -> Vec<(String, String)> {
    let mut facts = vec![
        ("weights_sha256".to_owned(), conclusion.weights_sha256.clone()),
        ("last_weights_sha256".to_owned(), conclusion.last_weights_sha256.clone()),
        ("data identity".to_owned(), state.counters.data_identity.clone()),
    ];
    if let Some(best) = state.counters.best {
        let fact = format!(
            "those of environment step {}, best on validation",
            format::count(best.environment_steps)
        );
        facts.push(("weights evaluated".to_owned(), fact));
    }
    facts
}

fn parts(market: &PreparedMarket) -> Vec<DataPart> {
    let part = |name: &str, of: fn(&crate::market::split::Split) -> &std::ops::Range<usize>| {
        let spans = market
            .price_series
            .iter()
            .zip(&market.splits)
            .filter(|(_, split)| !of(split).is_empty())
            .map(|(series, split)| span_millis(&series.bars, of(split)));
        let (from_millis, to_millis) =
            spans.fold((i64::MAX, i64::MIN), |(a, b), (from, to)| (a.min(from), b.max(to)));
        let n_bars = market.splits.iter().map(|split| of(split).len() as u64).sum();
        DataPart { name: name.to_owned(), from_millis, to_millis, n_bars }
    };
    let all = [
        part("train", |split| &split.train),
        part("validation", |split| &split.validation),
        part("test", |split| &split.test),
    ];
    all.into_iter().filter(|part| part.n_bars > 0).collect()
}

fn results(market: &PreparedMarket, test: &MarketTest) -> Market {
    let rows = test.rows();
    let curve = |row: &TestRow| {
        let joined = EquityCurve::join(row.backtests);
        Curve {
            name: row.label.clone(),
            role: row.role,
            times_millis: joined.times_millis,
            values: joined.equity,
        }
    };
    let table = |row: &TestRow| PerformanceRow {
        name: row.label.clone(),
        role: row.role,
        performance: row.performance,
        remark: row.stopped_words(),
    };
    let positions = |backtest: &crate::market::backtest::Backtest| Positions {
        instrument: backtest.name.clone(),
        times_millis: backtest.times_millis.clone(),
        price: backtest.price.clone(),
        position: backtest.position.clone(),
    };
    let costs = &market.rules.costs;
    Market {
        starting_balance: 1.0,
        curves: rows.iter().filter(|row| !row.backtests.is_empty()).map(curve).collect(),
        positions: test.agent.iter().map(positions).collect(),
        performance: rows.iter().map(table).collect(),
        costs: format!(
            "{} bp commission + {} bp half spread + {} bp slippage a side",
            costs.commission_bps, costs.half_spread_bps, costs.slippage_bps
        ),
        periods_per_year: rows[0].performance.periods_per_year,
        months: MonthTable {
            names: test_details::whose(test).iter().map(|(_, name, _)| (*name).to_owned()).collect(),
            months: test_details::months(test).into_iter().map(|month| (month.name, month.returns)).collect(),
        },
        costs_table: CostTable {
            rows: test.at_costs.iter().map(|&(times, value)| (times * test.cost_bps, times, value)).collect(),
            break_even_bps: test.break_even_bps,
        },
        instruments: test_details::instruments(test)
            .into_iter()
            .map(|one| InstrumentRow { name: one.name, agent: one.agent, buy_and_hold: one.buy_and_hold })
            .collect(),
    }
}

fn learning(state: &RunState, rows: &[Metrics]) -> Vec<LearningCurve> {
    let points = |kind: Kind, of: fn(&Metrics) -> Option<f64>| -> Vec<(u64, f64)> {
        let of_kind = rows.iter().filter(|row| row.kind == kind);
        of_kind.filter_map(|row| Some((row.environment_steps, of(row)?))).collect()
    };
    let curve = |title: &str, note: &str, points: Vec<(u64, f64)>| LearningCurve {
        title: title.to_owned(),
        note: note.to_owned(),
        points,
        ..LearningCurve::default()
    };
    let mark = state.counters.best.map(|best| (best.environment_steps, "kept".to_owned()));
    let is_market = matches!(state.evaluator, Evaluator::Market(_));
    let validation = if is_market {
        LearningCurve {
            mark,
            reference: Some((0.0, "flat".to_owned())),
            ..curve(
                "Validation log return",
                "greedy play over the whole validation part, costs paid",
                points(Kind::Validation, |row| row.validation_log_return),
            )
        }
    } else {
        let points = points(Kind::Validation, |row| row.episode_return);
        LearningCurve { mark, ..curve("Validation return", "mean of 20 greedy episodes", points) }
    };
    let training = if is_market {
        let note = "mean reward of a step with exploration, basis points";
        curve("Training reward", note, points(Kind::Train, |row| row.mean_reward_bps))
    } else {
        let note = "mean of the episodes that ended, with exploration";
        curve("Training return", note, points(Kind::Train, |row| row.episode_return))
    };
    vec![
        validation,
        training,
        curve("Loss", "weighted mean Huber loss of a learner step", points(Kind::Train, |row| row.loss)),
    ]
}

fn memory(rows: &[Metrics], conclusion: &Conclusion) -> Memory {
    Memory {
        along: Along::Seconds,
        resident: rows.iter().map(|row| (row.wall_seconds, row.resident_bytes)).collect(),
        counted: rows.iter().filter_map(|row| Some((row.wall_seconds, row.counted_bytes?))).collect(),
        limit_bytes: Some(conclusion.limit_bytes),
        peak_resident_bytes: Some(conclusion.peak_resident_bytes),
    }
}

fn limitations(conclusion: &Conclusion) -> Vec<String> {
    let mut notes = Vec::new();
    if let TestResult::Market(test) = &conclusion.test {
        let chosen = "Weights were chosen by the validation part; an embargo of one observation window stands between the parts.";
        notes.push(if conclusion.reported_before.is_empty() {
            format!("The test part was seen for the first time by this report. {chosen}")
        } else {
            format!("The test part was reported before the run was extended: what was decided since may rest on it. {chosen}")
        });
        let over = |t: f64, what: &str| {
            let is = if is_chance(t) { "is within chance" } else { "is more than chance gives" };
            format!("over that of {what} {is}: t = {t:.2}")
        };
        notes.push(match (test.t_statistic(), test.t_over_buy_and_hold) {
            (Some(flat), held) => format!(
                "The agent's mean log return per bar {}{}. Chance passes |t| = 2 about once in twenty times. One seed is \
                 one sample.",
                over(flat, "staying flat"),
                held.map_or_else(String::new, |t| format!(", and {}", over(t, "buying and holding (without a floor)"))),
            ),
            (None, _) => "The agent's log return per bar does not vary: there is no t statistic. One seed is one sample."
                .to_owned(),
        });
        notes.push(format!(
            "Sharpe and Sortino stand with intervals of 95 % by a stationary bootstrap in blocks of a day on average.{}",
            if test.days() < SHORT_TEST_DAYS {
                format!(" The test is {:.0} days long, which says little about a year.", test.days())
            } else {
                String::new()
            }
        ));
        let n_stopped = test.rows().iter().filter(|row| !row.stopped().is_empty()).count();
        if n_stopped > 0 {
            notes.push(format!(
                "The equity floor closes an account for good below {} of its start. It stopped {n_stopped} of the rows; \
                 baselines that it stopped stand beside them without it.",
                format::percent(test.equity_floor)
            ));
        }
        if let Some(oracle) = &test.oracle {
            notes.push(format!(
                "The oracle knows the predictable part of every bar, past and future, and pays the same costs: no \
                 agent that sees only the past can expect more than its {:.4} of log return. What it got beyond or \
                 below that is chance.",
                oracle.expected_log_return
            ));
        }
        notes.push(
            "Trades are filled at the next bar's open in full: no queue, no impact, no funding.".to_owned(),
        );
    }
    notes.push(match &conclusion.account {
        Some(account) => format!(
            "Every tensor was counted and the memory limit kept inside the allocator: {} allocations refused, {} learner steps made \
             again; {} are resident beyond what is counted and touched. Leaks are looked for by a first form: {} owners \
             only grew.",
            format::count(account.denied_allocations),
            format::count(account.steps_retried),
            format::bytes(u64::try_from(account.residual_bytes).unwrap_or(0)),
            account.leaks.len()
        ),
        None => "The run was not managed: nothing was counted, and nothing kept it under the memory limit.".to_owned(),
    });
    notes
}
