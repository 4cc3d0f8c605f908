//! Runs what threads share of a replay at full speed, to be built with ThreadSanitizer: `race SECONDS [tried]`.

use std::time::Duration;

use buffers_fuzz::replay::shared::stress;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(60);
    stress(Duration::from_secs(seconds), arguments.next().is_some_and(|word| word == "tried"));
}
