//! `plimsoll evaluate`.

use std::path::PathBuf;

use clap::Args;

use crate::atomic_file;
use crate::config::Config;
use crate::console::{print, say};
use crate::error::{Error, Result};
use crate::format;
use crate::market::dataset::{prepare, prepare_whole};
use crate::memory;
use crate::memory::profile::first_evaluation_bytes;
use crate::report::conclusion::reported_before_words;
use crate::report::test_rows::{episode_lines, test_json, with_interval};
use crate::resolve::resolve;
use crate::room_to_run::require_threads;
use crate::run::checkpoint;
use crate::run::config::EnvironmentKind;
use crate::run::evaluation::{Evaluator, TestResult};
use crate::run::folder::RunFolder;

/// Evaluate a run's agent against the baselines, on bars that it did not learn from.
///
/// Without --data, it uses the test part of the run's own bars. With --data, it uses the bars of those files that the
/// run has neither trained nor validated on, known by what they are and not by the files' names, and says which. The
/// weights are those with the best validation score.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  plimsoll evaluate --run runs/btc --data eth_1m.csv --json eth.json\n  plimsoll evaluate \
                  --run runs/btc --data 'new.csv?label=start&zone=America/New_York'"
)]
pub(super) struct EvaluateArgs {
    /// The run's folder.
    #[arg(long, value_name = "DIR")]
    run: PathBuf,
    /// Files of bars to evaluate on instead. What is not told of a file's format after a ? or by --set is as in the run.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    data: Vec<PathBuf>,
    /// Sets one key of [data] for the bars to evaluate on, such as data.label=end or data.zone=UTC. May be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Also judges bars that the run has trained or validated on. The result is then in sample.
    #[arg(long)]
    allow_seen: bool,
    /// The memory limit of the process, such as 2GiB or 60% [default: the run's own memory.limit].
    #[arg(long, value_name = "SIZE|PCT", allow_hyphen_values = true)]
    memory: Option<String>,
    /// The most that the process takes from its GPU's memory, such as 20GiB or 90% of what is free [default: the run's own
    /// memory.device_limit].
    #[arg(long, value_name = "SIZE|PCT", allow_hyphen_values = true)]
    device_memory: Option<String>,
    /// Also writes the numbers to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Runs the command.
pub(super) fn run(args: &EvaluateArgs) -> Result<()> {
    atomic_file::expect_folder(args.json.as_deref())?;
    let folder = RunFolder::open(&args.run)?;
    let config = configuration(args, &folder)?;
    let parts = resolve(&config, &memsys::libtorch::open()?)?;
    require_threads(&parts)?;
    memsys::libtorch::set_threads_once(parts.threads)?;
    memory::device::begin(&parts)?;
    memory::hold(parts.memory.limit, first_evaluation_bytes(&parts))?;
    let saved = checkpoint::require(&folder.checkpoint(), &args.run)?;
    let counters = checkpoint::load_counters(&saved)?;
    let mut judged = Vec::new();
    let evaluator = match parts.run.environment {
        EnvironmentKind::Cartpole => Evaluator::CartPole { seed: parts.run.seed },
        // Other settings of the data would cut the test elsewhere: then what was learned from decides.
        EnvironmentKind::Market if args.data.is_empty() && args.set.is_empty() && !args.allow_seen => {
            let market = prepare(&parts.market, &say)?;
            if market.identity != counters.data_identity {
                let problem =
                    "was trained on other bars than its files hold now: give bars with --data".to_owned();
                return Err(Error::File { path: args.run.clone(), problem });
            }
            Evaluator::Market(Box::new(market))
        }
        EnvironmentKind::Market => {
            let record = folder.load_data()?;
            let mut market = prepare_whole(&parts.market, &say)?;
            judged = market.judge_unseen(&record, args.allow_seen)?;
            Evaluator::Market(Box::new(market))
        }
    };
    let policy = parts.agent.policy();
    let weights = checkpoint::load_weights(&saved, &*policy, parts.device)?;
    let mut test = evaluator.test(&*policy, &weights, parts.run.seed)?;
    drop(weights);
    if counters.best.is_some_and(|best| best.environment_steps != counters.environment_steps) {
        let last = checkpoint::load_last_weights(&saved, &*policy, parts.device)?;
        evaluator.test_last(&mut test, &*policy, &last)?;
    }
    let is_in_sample = judged.iter().any(|judged| judged.is_in_sample);
    let mut json = test_json(&test);
    if let Evaluator::Market(market) = &evaluator {
        let lines = market.price_series.iter().zip(&judged).map(|(series, judged)| judged.note(series));
        let lines: Vec<String> = lines.chain(market.test_warnings()).collect();
        let title =
            if is_in_sample { "IN SAMPLE: the run has learned from bars that are judged here" } else { OUT };
        print(&format!("{title}\n"));
        let is_own_test = judged.is_empty();
        let extended: Vec<u64> = counters
            .reported_at
            .iter()
            .copied()
            .filter(|&steps| steps < counters.environment_steps)
            .collect();
        let seen = reported_before_words(&extended).filter(|_| is_own_test);
        let lines: Vec<String> = seen.into_iter().chain(lines).collect();
        lines.iter().for_each(|line| print(&format!("  {line}\n")));
        json["in_sample"] = is_in_sample.into();
        json["notes"] = lines.into();
    }
    print(&table(
        &test,
        if is_in_sample { "bars that are in sample" } else { "bars that it did not learn from" },
    ));
    atomic_file::write_json(args.json.as_deref(), &json)
}

/// The headline of bars that the run has not learned from.
const OUT: &str = "out of sample: the run has learned from none of the bars that are judged here";

/// The run's configuration, with the bars to evaluate on.
fn configuration(args: &EvaluateArgs, folder: &RunFolder) -> Result<Config> {
    if let Some(set) = args.set.iter().find(|set| !set.trim_start().starts_with("data.")) {
        let key = set.split('=').next().unwrap_or(set).to_owned();
        let problem = "an evaluation takes the keys of [data] alone; all else is the run's".to_owned();
        return Err(Error::Config { key, problem });
    }
    let mut sets = args.set.clone();
    let limits = [("memory.limit", &args.memory), ("memory.device_limit", &args.device_memory)];
    sets.extend(limits.iter().filter_map(|(key, limit)| Some(format!("{key}={}", limit.as_ref()?))));
    let mut config = Config::load(Some(&folder.config()), &sets)?;
    if !args.data.is_empty() {
        if config.run.environment != EnvironmentKind::Market {
            let problem = "the run's environment is CartPole, which has no bars".to_owned();
            return Err(Error::Config { key: "--data".to_owned(), problem });
        }
        config.data.files.clone_from(&args.data);
        config.data.source.clear();
    }
    Ok(config)
}

fn table(test: &TestResult, judged: &str) -> String {
    match test {
        TestResult::Market(test) => {
            let mut text = format!(
                "{:<38} {:>10} {:>10} {:>24} {:>24} {:>9} {:>7} {:>7} {:>8} {:>7} {:>9}\n",
                "",
                "return",
                "log return",
                "sharpe (95 %)",
                "sortino (95 %)",
                "drawdown",
                "long",
                "short",
                "cost",
                "trades",
                "win rate"
            );
            for row in test.rows() {
                let p = &row.performance;
                let stopped = row.stopped_words().map_or_else(String::new, |words| format!("  {words}"));
                text.push_str(&format!(
                    "{:<38} {:>10} {:>10.4} {:>24} {:>24} {:>9} {:>7} {:>7} {:>8} {:>7} {:>9}{stopped}\n",
                    row.label,
                    format::signed_percent(p.total_return),
                    p.log_return,
                    with_interval(p.sharpe, p.sharpe_interval),
                    with_interval(p.sortino, p.sortino_interval),
                    format::percent(p.max_drawdown),
                    format::percent(p.exposure_long),
                    format::percent(p.exposure_short),
                    format::percent(p.cost),
                    p.trades,
                    p.win_rate.map_or_else(|| format::UNKNOWN.to_owned(), format::percent)
                ));
            }
            text.push_str(&format!("agent: {}\n", test.verdict(judged)));
            text
        }
        TestResult::Episodes(test) => {
            let lines = episode_lines(&test.agent, test.last.as_deref());
            lines.iter().map(|line| format!("{line}\n")).collect()
        }
    }
}
