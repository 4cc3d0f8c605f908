//! `plimsoll`: reinforcement-learning agents that train inside a memory budget.

fn main() -> std::process::ExitCode {
    trainer::cli::main()
}
