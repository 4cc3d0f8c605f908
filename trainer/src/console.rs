//! Output: results go to standard output, messages to standard error.

use std::io::Write;

use crate::error::Error;

/// Writes a result to standard output. A closed pipe (`| head`) is no error.
pub(crate) fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Prints a message.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Prints an error in one line.
pub(crate) fn complain(error: &Error) {
    say(&format!("plimsoll: {error}"));
}
