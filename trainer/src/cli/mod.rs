//! The command line: parses the arguments, runs the command, and returns an exit status.

mod completions;
mod data;
mod evaluate;
mod export;
mod features;
mod histogram;
mod man;
mod plan;
mod replay;
mod replay_files;
mod settings;
mod train;
mod verify;
mod work_progress;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::console::{Verbosity, complain, print, set_verbosity};
use crate::error::Error;
use crate::run::train_loop::Ended;
use crate::signals;

/// Exit status of bad usage, configuration or input.
const USAGE: u8 = 2;
/// Exit status if the memory limit cannot hold the run, before it begins or after it was saved.
const LIMIT_TOO_LOW: u8 = 3;
/// Exit status of a run that was interrupted and can be resumed.
const INTERRUPTED: u8 = 130;

#[derive(Debug, Parser)]
#[command(
    name = "plimsoll",
    version,
    arg_required_else_help = true,
    after_help = "Examples:\n  plimsoll train\n  plimsoll train --data btc_1m.csv --memory 2GiB --out runs/btc\n  \
                  plimsoll train --resume runs/btc\n\nEvery command has a --help with examples of its own."
)]
/// Plimsoll trains reinforcement-learning agents inside a memory limit that you state.
struct Cli {
    /// Prints only results and errors.
    #[arg(short, long, global = true, conflicts_with = "verbose", display_order = 900)]
    quiet: bool,
    /// Also prints details: settings that differ from the defaults, the content of each file of bars, every checkpoint.
    #[arg(short, long, global = true, display_order = 901)]
    verbose: bool,
    #[command(subcommand)]
    command: Command,
}

/// A doc comment on a variant here would hide all but the first line of its arguments' doc, so most have none.
#[derive(Debug, Subcommand)]
enum Command {
    Train(train::TrainArgs),
    Evaluate(evaluate::EvaluateArgs),
    Export(export::ExportArgs),
    Data(data::DataArgs),
    Features(features::FeaturesArgs),
    Plan(plan::PlanArgs),
    Verify(verify::VerifyArgs),
    /// Look into a replay file.
    #[command(subcommand)]
    Replay(replay::ReplayCommand),
    Config(settings::ConfigArgs),
    /// Measure this program.
    #[command(subcommand)]
    Bench(BenchCommand),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    Train(crate::bench::BenchTrainArgs),
    Memory(crate::bench::BenchMemoryArgs),
    Limit(crate::bench::BenchLimitArgs),
    Replay(crate::bench::BenchReplayArgs),
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    signals::survive_file_size_limit();
    let Cli { quiet, verbose, command } = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // clap reports `--help` and `--version` as errors too, but knows which stream each belongs to.
            let status = if error.use_stderr() { USAGE } else { 0 };
            let _ = error.print();
            return ExitCode::from(status);
        }
    };
    set_verbosity(match (quiet, verbose) {
        (true, _) => Verbosity::Quiet,
        (false, false) => Verbosity::Usual,
        (false, true) => Verbosity::Verbose,
    });
    let outcome = match command {
        Command::Train(args) => train::run(&args),
        Command::Evaluate(args) => evaluate::run(&args).map(|()| Ended::Done),
        Command::Export(args) => export::run(&args).map(|()| Ended::Done),
        Command::Data(args) => data::run(&args).map(|()| Ended::Done),
        Command::Features(args) => features::run(&args).map(|()| Ended::Done),
        Command::Plan(args) => plan::run(&args).map(|()| Ended::Done),
        Command::Verify(args) => verify::run(&args).map(|()| Ended::Done),
        Command::Replay(command) => replay::run(&command).map(|()| Ended::Done),
        Command::Config(args) => args.settings.load().map(|config| {
            print(&config.to_toml());
            Ended::Done
        }),
        Command::Bench(BenchCommand::Train(args)) => crate::bench::train::run(&args).map(|()| Ended::Done),
        Command::Bench(BenchCommand::Memory(args)) => crate::bench::memory::run(&args).map(|()| Ended::Done),
        Command::Bench(BenchCommand::Limit(args)) => crate::bench::limit::run(&args).map(|()| Ended::Done),
        Command::Bench(BenchCommand::Replay(args)) => crate::bench::replay::run(&args).map(|()| Ended::Done),
        Command::Completions(args) => {
            completions::run(&args, Cli::command());
            Ok(Ended::Done)
        }
        Command::Man(args) => man::run(&args, Cli::command()).map(|()| Ended::Done),
    };
    match outcome {
        Ok(Ended::Done) => ExitCode::SUCCESS,
        Ok(Ended::Interrupted) => ExitCode::from(INTERRUPTED),
        Err(Error::Interrupted) => {
            complain(&Error::Interrupted);
            ExitCode::from(INTERRUPTED)
        }
        Err(error) => {
            let error = error.with_way_out(None);
            complain(&error);
            ExitCode::from(status_of(&error))
        }
    }
}

fn status_of(error: &Error) -> u8 {
    match error {
        Error::LimitTooLow { .. } | Error::DeviceLimitTooLow { .. } | Error::ReplayLimitTooLow { .. } => {
            LIMIT_TOO_LOW
        }
        error if error.is_out_of_room() => LIMIT_TOO_LOW,
        error if error.is_usage() => USAGE,
        _ => 1,
    }
}
