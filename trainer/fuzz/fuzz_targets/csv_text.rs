//! Reading any text as bars gives bars or a refusal: it does not panic and does not allocate without bound. The first
//! line of an input holds the options, as they stand after a file's name and `?`; the rest is the file. Its line ends
//! do not matter.
#![no_main]

use std::path::Path;

use trainer_fuzz::market::import::Source;
use trainer_fuzz::{check, import_bytes};

/// How files begin that are no text, among those whose beginning could be text.
const BINARY: [&[u8]; 3] = [b"PAR1", b"ARROW1", b"PK"];

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let at = input.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let (options, content) = input.split_at(at);
    let Ok(options) = std::str::from_utf8(options) else { return };
    let content = content.get(1..).unwrap_or_default();
    let Ok(source) = Source::from_text(Path::new(&format!("bars.csv?{options}"))) else { return };
    let read = import_bytes(content, &source.options);
    check(content, &source.options, &read);
    // A quoted field may hold a line end, which stays as it is; and in files that are no text, or are UTF-16, a line feed
    // is a byte of something else.
    let is_text = std::str::from_utf8(content).is_ok()
        && !content.contains(&0)
        && !BINARY.iter().any(|mark| content.starts_with(mark));
    if !is_text || content.iter().any(|byte| b"\r\"[{".contains(byte)) {
        return;
    }
    let mut with_returns = Vec::new();
    for byte in content {
        if *byte == b'\n' {
            with_returns.push(b'\r');
        }
        with_returns.push(*byte);
    }
    match (read, import_bytes(&with_returns, &source.options)) {
        (Ok(one), Ok(other)) => assert!(one == other, "line ends change what is read"),
        (Err(one), Err(other)) => assert_eq!(one.to_string(), other.to_string()),
        (one, other) => panic!("line ends change what is read: {one:?}, {other:?}"),
    }
});
