//! Reading any bytes as a file of bars, of whatever kind they look like, gives bars or a refusal: it does not panic and
//! does not allocate without bound.
#![no_main]

use trainer_fuzz::market::import::SourceOptions;
use trainer_fuzz::{check, import_bytes};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let options = SourceOptions::default();
    check(input, &options, &import_bytes(input, &options));
});
