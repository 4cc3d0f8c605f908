//! `plimsoll man`.

use std::path::PathBuf;

use clap::{Args, Command};
use clap_mangen::{Man, generate_to};

use crate::console::{print, say};
use crate::error::{Error, Result};

/// Print the manual page, or write one page for each command.
///
/// Pages are in roff, the format that `man` reads. `make install` installs all of them.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  plimsoll man | man -l -\n  plimsoll man --out ~/.local/share/man/man1")]
pub(super) struct ManArgs {
    /// Writes plimsoll.1, plimsoll-train.1 and so on to this folder, which is created if needed.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Prints or writes the pages of `command`.
pub(super) fn run(args: &ManArgs, command: Command) -> Result<()> {
    let Some(folder) = &args.out else {
        let mut page = Vec::new();
        Man::new(command).render(&mut page).map_err(Error::io("standard output"))?;
        print(&String::from_utf8_lossy(&page));
        return Ok(());
    };
    std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    generate_to(command, folder).map_err(Error::io(folder))?;
    say(&format!("manual pages in {}", folder.display()));
    Ok(())
}
