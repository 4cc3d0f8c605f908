//! Texts that say whether they are what was written: their last line holds the CRC-32 of all before it.
//!
//! ```text
//! JSON   {"a": 1,                            TOML   a = 1
//!         "crc32": "89abcdef"}                      # Run 0123456789abcdef, CRC-32 89abcdef of all above
//! ```
//!
//! Both stay what they were for other programs: the JSON has one more key, the TOML one more comment.

use serde::Serialize;

/// What stands between the value and its checksum, and after it.
const JSON: [&str; 2] = [",\n  \"crc32\": \"", "\"\n}\n"];
const TOML: [&str; 3] = ["# Run ", ", CRC-32 ", " of all above: give changes by --set, not in this file.\n"];
/// Hexadecimal digits of a CRC-32 and of a run's name.
const N_DIGITS: usize = 8;
const N_NAME: usize = 16;

/// A struct as sealed JSON, a line for each field.
///
/// # Panics
/// If `value` is not a struct with fields that JSON can hold.
#[must_use]
pub(crate) fn to_json(value: &impl Serialize) -> Vec<u8> {
    let mut text = serde_json::to_string_pretty(value).expect("a struct of numbers and texts is always JSON");
    assert_eq!(text.pop(), Some('}'), "only an object can be sealed");
    text.truncate(text.trim_end().len());
    let [before, after] = JSON;
    let crc32 = crc32fast::hash(text.as_bytes());
    text.push_str(&format!("{before}{crc32:08x}{after}"));
    text.into_bytes()
}

/// Whether sealed JSON is what was written.
#[must_use]
pub(crate) fn is_whole_json(text: &[u8]) -> bool {
    let [before, after] = JSON.map(str::as_bytes);
    let of = || {
        let (value, digits) = text.strip_suffix(after)?.split_last_chunk::<N_DIGITS>()?;
        let value = value.strip_suffix(before)?;
        Some(*digits == *digits_of(crc32fast::hash(value)).as_bytes())
    };
    of() == Some(true)
}

/// A run's configuration, sealed with the run's name.
#[must_use]
pub(crate) fn to_toml(config_toml: &str, run: u64) -> Vec<u8> {
    let [before, between, after] = TOML;
    let text = format!("{config_toml}\n{before}{run:016x}{between}");
    let crc32 = crc32fast::hash(text.as_bytes());
    format!("{text}{crc32:08x}{after}").into_bytes()
}

/// The run's name in a sealed configuration, or `None` if the text is not what was written.
#[must_use]
pub(crate) fn run_of_toml(text: &[u8]) -> Option<u64> {
    let [before, between, after] = TOML.map(str::as_bytes);
    let (text, digits) = text.strip_suffix(after)?.split_last_chunk::<N_DIGITS>()?;
    if *digits != *digits_of(crc32fast::hash(text)).as_bytes() {
        return None;
    }
    let (text, name) = text.strip_suffix(between)?.split_last_chunk::<N_NAME>()?;
    text.strip_suffix(before)?;
    u64::from_str_radix(std::str::from_utf8(name).ok()?, 16).ok()
}

fn digits_of(crc32: u32) -> String {
    format!("{crc32:08x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize, serde::Deserialize, PartialEq, Debug)]
    struct Both {
        one: u64,
        two: String,
    }

    #[test]
    fn a_sealed_text_reads_as_before_and_no_bit_of_it_can_change() {
        let value = Both { one: 1, two: "}".to_owned() };
        let json = to_json(&value);
        assert_eq!(serde_json::from_slice::<Both>(&json).unwrap(), value);
        let toml = to_toml("[run]\nseed = 1\n", 0x0123_4567_89ab_cdef);
        let table: toml::Table = toml::from_str(std::str::from_utf8(&toml).unwrap()).unwrap();
        assert_eq!(table["run"]["seed"].as_integer(), Some(1));
        assert!(is_whole_json(&json));
        assert_eq!(run_of_toml(&toml), Some(0x0123_4567_89ab_cdef));
        for bit in 0..json.len() * 8 {
            let mut flipped = json.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!is_whole_json(&flipped), "bit {bit}");
        }
        for bit in 0..toml.len() * 8 {
            let mut flipped = toml.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(run_of_toml(&flipped), None, "bit {bit}");
        }
        for n in 0..json.len() {
            assert!(!is_whole_json(&json[..n]), "{n} bytes");
        }
        for n in 0..toml.len() {
            assert_eq!(run_of_toml(&toml[..n]), None, "{n} bytes");
        }
    }
}
