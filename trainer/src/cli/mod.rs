//! The command line: what the user typed becomes an order, what came of it an exit status.

mod evaluate;
mod features;
mod histogram;
mod plan;
mod replay;
mod settings;
mod table_file;
mod train;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::console::{complain, print};
use crate::error::Error;
use crate::run::train_loop::Ended;

/// Exit status of bad usage, configuration or input.
const USAGE: u8 = 2;
/// Exit status where the memory limit cannot hold the run.
const LIMIT_TOO_LOW: u8 = 3;
/// Exit status of a run that was interrupted and can be resumed.
const INTERRUPTED: u8 = 130;

#[derive(Debug, Parser)]
#[command(name = "plimsoll", version, about, long_about = None, arg_required_else_help = true)]
/// Plimsoll trains reinforcement-learning agents inside a memory budget that you state.
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train an agent on market bars (or CartPole) and report out of sample.
    Train(train::TrainArgs),
    /// Judge a run's agent on unseen bars against the baselines.
    Evaluate(evaluate::EvaluateArgs),
    /// Write every feature row with its name and the time from which it may be seen.
    Features(features::FeaturesArgs),
    /// What a configuration will cost in bytes, part by part, and what fits the memory limit.
    Plan(plan::PlanArgs),
    /// Look at a replay file: what it holds, and whether it is what was written.
    #[command(subcommand)]
    Replay(replay::ReplayCommand),
    /// Print the resolved configuration with its comments.
    Config(settings::ConfigArgs),
    /// Measure this program.
    #[command(subcommand)]
    Bench(BenchCommand),
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    /// Learner samples/s, acting and environment steps/s.
    Train(crate::bench::BenchTrainArgs),
    /// The managed way against the usual one, and what a lower memory limit costs.
    Memory(crate::bench::BenchMemoryArgs),
    /// Replay: samples/s by tier, inserts/s, bytes a transition, checkpoints, latency, growth.
    Replay(crate::bench::BenchReplayArgs),
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(error) => {
            // `--help` and `--version` are answers, not errors; clap knows which stream each belongs to.
            let status = if error.use_stderr() { USAGE } else { 0 };
            let _ = error.print();
            return ExitCode::from(status);
        }
    };
    let outcome = match command {
        Command::Train(args) => train::run(&args),
        Command::Evaluate(args) => evaluate::run(&args).map(|()| Ended::Done),
        Command::Features(args) => features::run(&args).map(|()| Ended::Done),
        Command::Plan(args) => plan::run(&args).map(|()| Ended::Done),
        Command::Replay(command) => replay::run(&command).map(|()| Ended::Done),
        Command::Config(args) => args.settings.load().map(|config| {
            print(&config.to_toml());
            Ended::Done
        }),
        Command::Bench(BenchCommand::Train(args)) => crate::bench::train::run(&args).map(|()| Ended::Done),
        Command::Bench(BenchCommand::Memory(args)) => crate::bench::memory::run(&args).map(|()| Ended::Done),
        Command::Bench(BenchCommand::Replay(args)) => crate::bench::replay::run(&args).map(|()| Ended::Done),
    };
    match outcome {
        Ok(Ended::Done) => ExitCode::SUCCESS,
        Ok(Ended::Interrupted) => ExitCode::from(INTERRUPTED),
        Err(error) => {
            complain(&error);
            ExitCode::from(status_of(&error))
        }
    }
}

fn status_of(error: &Error) -> u8 {
    match error {
        Error::LimitTooLow { .. } | Error::ReplayLimitTooLow { .. } => LIMIT_TOO_LOW,
        Error::Memory(memsys::Error::Refused(_)) => LIMIT_TOO_LOW,
        error if error.is_usage() => USAGE,
        _ => 1,
    }
}
