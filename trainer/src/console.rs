//! Where results and words to the user go: results to standard output, words to standard error.

use std::io::Write;

use crate::error::Error;

/// Writes a result to standard output. A closed pipe (`| head`) is no error.
pub(crate) fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Tells the user what goes on.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Tells the user what went wrong, in one line.
pub(crate) fn complain(error: &Error) {
    say(&format!("plimsoll: {error}"));
}
