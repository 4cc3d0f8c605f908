//! Reading any bytes as a file of bars, of whatever kind they look like, gives bars or a refusal: it does not panic and
//! does not allocate without bound.
#![no_main]

use trainer_fuzz::market::import::SourceOptions;
use trainer_fuzz::{check, import_bytes};

// The decoder of Feather panics on some damaged files, which the import turns into refusals. libFuzzer would end at the
// panic itself; so it is only told of panics that nothing catches.
libfuzzer_sys::fuzz_target!(init: std::panic::set_hook(Box::new(|_| {})), |input: &[u8]| {
    let options = SourceOptions::default();
    check(input, &options, &import_bytes(input, &options));
});
