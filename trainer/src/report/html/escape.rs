//! Texts on the page: escaped, and set with the signs that print uses.

use std::fmt::Write;

/// Makes any text safe inside an element or a quoted attribute.
pub(super) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            _ => safe.push(c),
        }
    }
    safe
}

/// Sets a formatted number: a true minus sign, and no line break between a value and its unit.
pub(super) fn typeset(number: &str) -> String {
    let number = match number.strip_prefix('-') {
        Some(rest) => format!("−{rest}"),
        None => number.to_string(),
    };
    number.replace(' ', "\u{a0}")
}

/// Appends formatted text to a page. Writing to a `String` cannot fail, which is said here once.
pub(super) fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a String takes all that fits in memory");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_can_open_an_element_or_close_an_attribute() {
        assert_eq!(escape(r#"<b a="1">&'"#), "&lt;b a=&quot;1&quot;&gt;&amp;&#39;");
        assert_eq!(escape("plain – text"), "plain – text");
    }

    #[test]
    fn numbers_get_a_true_minus_and_keep_their_unit() {
        assert_eq!(typeset("-1.2 %"), "−1.2\u{a0}%");
        assert_eq!(typeset("1.2e-6"), "1.2e-6");
    }
}
