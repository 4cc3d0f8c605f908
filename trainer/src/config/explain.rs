//! Rewrites serde's message about a refused value for the person who wrote the value.

use super::near;
use super::raw::Written;

/// The second half of an error about a refused value, such as `"fast" is not a number`. `said` is serde's message.
pub(super) fn explain(said: &str, written: &Written) -> String {
    let text = &written.text;
    if let Some(words) = said.strip_prefix("unknown variant ") {
        let mut quoted = words.split('`').skip(1).step_by(2);
        let given = quoted.next().unwrap_or(text);
        let known: Vec<&str> = quoted.collect();
        let meant = near(given, &known).map_or(String::new(), |word| format!("; did you mean {word}?"));
        return format!("`{given}` is none of {}{meant}", known.join(", "));
    }
    if said.starts_with("invalid value") {
        return out_of_range(written);
    }
    let Some((_, expected)) =
        said.strip_prefix("invalid type: ").and_then(|rest| rest.split_once("expected "))
    else {
        return said.to_owned();
    };
    match (expected.trim(), &written.value) {
        ("string only", _) => format!("{text} is not one of the key's words"),
        ("f32" | "f64", _) => format!("{text} is not a number"),
        ("a boolean" | "bool", _) => format!("{text} is neither true nor false"),
        ("u8" | "u16" | "u32" | "u64" | "usize" | "i64", toml::Value::Float(number))
            if number.fract() == 0.0 && number.abs() < 1e15 =>
        {
            format!("{text} is written as a fraction, and must be whole; write {number}")
        }
        ("u8" | "u16" | "u32" | "u64" | "usize" | "i64", _) => format!("{text} is not a whole number"),
        ("a string" | "path string", _) => format!("{text} is not text: write it in quotes"),
        _ => format!("{text} is refused: {said}"),
    }
}

/// The value lies outside its range.
pub(super) fn out_of_range(written: &Written) -> String {
    format!("{} is out of range", written.text)
}
