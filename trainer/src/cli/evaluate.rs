//! `plimsoll evaluate`.

use std::path::PathBuf;

use agents::dqn::{Actor, Network};
use clap::Args;

use crate::config::{Config, EnvironmentKind};
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::market::account::{ACCOUNT_WIDTH, N_ACTIONS};
use crate::market::prepare::prepare;
use crate::output::{print, say};
use crate::run::checkpoint;
use crate::run::evaluation::{Judge, TestResult, weights_of};
use crate::run::files;
use crate::run::folder::RunFolder;
use crate::run::human;
use crate::run::memory;
use crate::run::summary::{spread, test_json};
use crate::run::train::{device, dqn_config, threads};

/// Judge a run's agent on unseen bars against the baselines.
///
/// Without --data, on the test part of the run's own bars. With it, on all bars of those files at which an
/// observation is full; the weights are those of the best validation.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  plimsoll evaluate --run runs/btc --data eth_1m.csv --json eth.json")]
pub(super) struct EvaluateArgs {
    /// The run's folder.
    #[arg(long, value_name = "DIR")]
    run: PathBuf,
    /// Files of bars to judge on instead, spelled as the run's own.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    data: Vec<PathBuf>,
    /// Also writes the numbers there.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Evaluates as told.
pub(super) fn run(args: &EvaluateArgs) -> Result<()> {
    files::expect_folder(args.json.as_deref())?;
    let runtime = memsys::libtorch::open()?;
    memory::count()?;
    let folder = RunFolder::open(&args.run)?;
    let mut config = Config::load(Some(&folder.config()), &[])?;
    let device = device(config.run.device, &runtime)?;
    memsys::libtorch::set_threads_once(threads(config.run.threads))?;
    let saved = checkpoint::find(&folder.checkpoint())?;
    let counters = checkpoint::load_counters(&saved)?;
    let tensors = checkpoint::load_tensors(&saved)?;
    let (judge, n_actions, own_width) = match config.run.environment {
        EnvironmentKind::Cartpole => {
            if !args.data.is_empty() {
                let problem = "the run's environment is CartPole, which has no bars".to_owned();
                return Err(Error::Config { key: "--data".to_owned(), problem });
            }
            let environment = crate::cartpole::CartPole::new();
            (Judge::CartPole { seed: config.run.seed }, environment.n_actions(), environment.own_width())
        }
        EnvironmentKind::Market => {
            if !args.data.is_empty() {
                config.data.files.clone_from(&args.data);
            }
            let mut market = prepare(&config, &say)?;
            if args.data.is_empty() {
                if market.identity != counters.data_identity {
                    let problem = "was trained on other bars than its files hold now".to_owned();
                    return Err(Error::File { path: args.run.clone(), problem });
                }
            } else {
                for (split, tape) in market.splits.iter_mut().zip(market.tapes.iter()) {
                    split.test = tape.first_decision..tape.bars.len() - 1;
                }
            }
            (Judge::Market(Box::new(market)), N_ACTIONS, ACCOUNT_WIDTH)
        }
    };
    let dqn = dqn_config(&config, n_actions, own_width);
    let network = Network::new(&dqn);
    let weights = weights_of(&network, tensors.best.as_ref().unwrap_or(&tensors.online), device)?;
    let actor = Actor::new(Network::new(&dqn));
    let test = judge.test(&network, &weights, &actor, config.run.seed)?;
    print(&table(&test));
    files::write_json(args.json.as_deref(), &test_json(&test))
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
                    human::signed_percent(p.total_return),
                    p.log_return,
                    p.sharpe,
                    p.sortino,
                    human::percent(p.max_drawdown),
                    human::percent(p.exposure),
                    human::percent(p.cost),
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
