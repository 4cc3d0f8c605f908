//! `plimsoll evaluate`.

use std::path::PathBuf;

use clap::Args;

use crate::atomic_file;
use crate::config::Config;
use crate::console::{print, say};
use crate::error::{Error, Result};
use crate::format;
use crate::market::dataset::prepare;
use crate::memory;
use crate::report::conclusion::spread;
use crate::report::summary::test_json;
use crate::resolve::resolve;
use crate::run::checkpoint;
use crate::run::config::EnvironmentKind;
use crate::run::evaluation::{Evaluator, TestResult};
use crate::run::folder::RunFolder;

/// Evaluate a run's agent against the baselines, on bars that it did not learn from.
///
/// Without --data, it uses the test part of the run's own bars. With --data, it uses all bars of those files at which
/// an observation is full. The weights are those with the best validation score.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  plimsoll evaluate --run runs/btc --data eth_1m.csv --json eth.json")]
pub(super) struct EvaluateArgs {
    /// The run's folder.
    #[arg(long, value_name = "DIR")]
    run: PathBuf,
    /// Files of bars to evaluate on instead, in the format of the run's own.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    data: Vec<PathBuf>,
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
    let limits = [("memory.limit", &args.memory), ("memory.device_limit", &args.device_memory)];
    let sets: Vec<String> =
        limits.iter().filter_map(|(key, limit)| Some(format!("{key}={}", limit.as_ref()?))).collect();
    let mut config = Config::load(Some(&folder.config()), &sets)?;
    if !args.data.is_empty() {
        if config.run.environment != EnvironmentKind::Market {
            let problem = "the run's environment is CartPole, which has no bars".to_owned();
            return Err(Error::Config { key: "--data".to_owned(), problem });
        }
        config.data.files.clone_from(&args.data);
    }
    let parts = resolve(&config, &memsys::libtorch::open()?)?;
    memsys::libtorch::set_threads_once(parts.threads)?;
    memory::device::begin(&parts)?;
    memory::hold(parts.memory.limit)?;
    let saved = checkpoint::find(&folder.checkpoint())?;
    let counters = checkpoint::load_counters(&saved)?;
    let evaluator = match parts.run.environment {
        EnvironmentKind::Cartpole => Evaluator::CartPole { seed: parts.run.seed },
        EnvironmentKind::Market => {
            let mut market = prepare(&parts.market, &say)?;
            if !args.data.is_empty() {
                for (split, series) in market.splits.iter_mut().zip(market.price_series.iter()) {
                    split.test = series.first_decision..series.bars.len() - 1;
                }
            } else if market.identity != counters.data_identity {
                let problem = "was trained on other bars than its files hold now".to_owned();
                return Err(Error::File { path: args.run.clone(), problem });
            }
            Evaluator::Market(Box::new(market))
        }
    };
    let policy = parts.agent.policy();
    let weights = checkpoint::load_weights(&saved, &*policy, parts.device)?;
    let test = evaluator.test(&*policy, &weights, parts.run.seed)?;
    print(&table(&test));
    atomic_file::write_json(args.json.as_deref(), &test_json(&test))
}

fn table(test: &TestResult) -> String {
    match test {
        TestResult::Market(test) => {
            let mut text = format!(
                "{:<34} {:>10} {:>10} {:>8} {:>8} {:>9} {:>9} {:>8} {:>7}\n",
                "", "return", "log return", "sharpe", "sortino", "drawdown", "exposure", "cost", "trades"
            );
            for row in test.rows() {
                let p = &row.performance;
                text.push_str(&format!(
                    "{:<34} {:>10} {:>10.4} {:>8.2} {:>8.2} {:>9} {:>9} {:>8} {:>7}\n",
                    row.label,
                    format::signed_percent(p.total_return),
                    p.log_return,
                    p.sharpe,
                    p.sortino,
                    format::percent(p.max_drawdown),
                    format::percent(p.exposure),
                    format::percent(p.cost),
                    p.trades
                ));
            }
            text.push_str(&format!("agent: {}\n", test.verdict()));
            text
        }
        TestResult::Episodes(returns) => {
            let [mean, deviation, lowest, highest] = spread(returns);
            format!(
                "agent: mean return {mean:.1} over {} episodes (± {deviation:.1}, {lowest:.0} to {highest:.0})\n",
                returns.len()
            )
        }
    }
}
