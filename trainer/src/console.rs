//! Output: results go to standard output, messages to standard error.
//!
//! `--quiet` and `--verbose` say how many messages there are. Results and errors are always printed.

use std::io::Write;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::error::{Error, without_frames};

/// How much the user wants to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
#[repr(u8)]
pub(crate) enum Verbosity {
    /// Results and errors.
    Quiet,
    /// And what goes on.
    Usual,
    /// And its details.
    Verbose,
}

static VERBOSITY: AtomicU8 = AtomicU8::new(Verbosity::Usual as u8);

/// Sets how much is told from now on, in the whole process.
pub(crate) fn set_verbosity(verbosity: Verbosity) {
    VERBOSITY.store(verbosity as u8, Ordering::Relaxed);
}

/// Whether words of this kind are told.
pub(crate) fn tells(verbosity: Verbosity) -> bool {
    VERBOSITY.load(Ordering::Relaxed) >= verbosity as u8
}

/// Writes a result to standard output. A closed pipe (`| head`) is no error.
pub(crate) fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Prints a message.
pub(crate) fn say(line: &str) {
    if tells(Verbosity::Usual) {
        say_always(line);
    }
}

/// Tells a user who asked for details.
pub(crate) fn say_detail(line: &str) {
    if tells(Verbosity::Verbose) {
        say_always(line);
    }
}

/// Tells the user what must not be missed: a result that stands beside others, or what went wrong and was survived.
pub(crate) fn say_always(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Prints an error in one line.
pub(crate) fn complain(error: &Error) {
    say_always(&format!("plimsoll: {}", without_frames(&error.to_string())));
}
