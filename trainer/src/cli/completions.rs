//! `plimsoll completions`.

use clap::{Args, Command, ValueEnum};
use clap_complete::{Shell, generate};

use crate::console::print;

/// A shell with command-line completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CompletingShell {
    Bash,
    Zsh,
    Fish,
}

/// Print the completions of a shell, for the folder where it looks for them.
///
/// `make install` installs those of all three shells.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  plimsoll completions bash > ~/.local/share/bash-completion/completions/plimsoll\n  \
                        plimsoll completions zsh > ~/.zfunc/_plimsoll\n  plimsoll completions fish > \
                        ~/.config/fish/completions/plimsoll.fish"
)]
pub(super) struct CompletionsArgs {
    /// The shell to print them for.
    shell: CompletingShell,
}

/// Prints the completions of `command`.
pub(super) fn run(args: &CompletionsArgs, mut command: Command) {
    let shell = match args.shell {
        CompletingShell::Bash => Shell::Bash,
        CompletingShell::Zsh => Shell::Zsh,
        CompletingShell::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    generate(shell, &mut command, "plimsoll", &mut script);
    print(&String::from_utf8_lossy(&script));
}
