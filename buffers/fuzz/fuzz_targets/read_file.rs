//! Whatever bytes a replay file holds, reading it is an answer or an error: no panic, no runaway memory.
#![no_main]

use buffers_fuzz::{file_of, store};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let file = file_of(input);
    if let Ok(found) = store::read_bytes(&file) {
        assert_eq!(found.file_bytes, file.len() as u64);
        assert!(found.uncommitted_bytes <= found.file_bytes);
        for damage in &found.damages {
            let end = damage.offset.checked_add(damage.n_bytes);
            assert!(
                end.is_some_and(|end| end <= found.file_bytes.max(4096)),
                "{damage} lies outside the file"
            );
        }
        assert!(!found.to_string().is_empty());
    }
});
