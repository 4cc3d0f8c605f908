//! `plimsoll`: reinforcement-learning agents that train inside a memory limit.

fn main() -> std::process::ExitCode {
    trainer::cli::main()
}
