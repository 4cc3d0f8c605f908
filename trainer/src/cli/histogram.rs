//! A histogram of priorities by decade.

use std::fmt;

use serde_json::{Value, json};

use crate::format;

/// Width of the longest bar in characters.
const LONGEST_BAR: u64 = 40;

/// Counts of positive numbers by decade.
#[derive(Debug, PartialEq)]
pub(super) struct Histogram {
    n: u64,
    least: f64,
    median: f64,
    mean: f64,
    largest: f64,
    /// `(e, n)`: `n` numbers lie in [10^e, 10^(e + 1)).
    decades: Vec<(i32, u64)>,
}

impl Histogram {
    /// Counts the numbers that are finite and above 0.
    pub(super) fn of(mut numbers: Vec<f64>) -> Self {
        numbers.retain(|number| number.is_finite() && *number > 0.0);
        numbers.sort_by(f64::total_cmp);
        let [Some(least), Some(largest)] = [numbers.first(), numbers.last()].map(Option::<&f64>::copied)
        else {
            return Self { n: 0, least: 0.0, median: 0.0, mean: 0.0, largest: 0.0, decades: Vec::new() };
        };
        let decade = |number: f64| number.log10().floor() as i32;
        let mut decades: Vec<(i32, u64)> =
            (decade(least)..=decade(largest)).map(|decade| (decade, 0)).collect();
        for number in &numbers {
            decades[(decade(*number) - decade(least)) as usize].1 += 1;
        }
        Self {
            n: numbers.len() as u64,
            least,
            median: numbers[numbers.len() / 2],
            mean: numbers.iter().sum::<f64>() / numbers.len() as f64,
            largest,
            decades,
        }
    }

    /// The histogram as JSON.
    pub(super) fn to_json(&self) -> Value {
        let decade = |(decade, n): &(i32, u64)| json!({"from": 10f64.powi(*decade), "n": n});
        json!({
            "n": self.n,
            "least": self.least,
            "median": self.median,
            "mean": self.mean,
            "largest": self.largest,
            "decades": self.decades.iter().map(decade).collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = [self.least, self.median, self.mean, self.largest].map(format::number);
        let [least, median, mean, largest] = numbers;
        writeln!(f, "priorities: least {least}, median {median}, mean {mean}, largest {largest}")?;
        let most = self.decades.iter().map(|(_, n)| *n).max().unwrap_or(0).max(1);
        for (decade, n) in &self.decades {
            let bar = "#".repeat((n * LONGEST_BAR).div_ceil(most) as usize);
            writeln!(f, "{:>8} {:>12} {bar}", format!("1e{decade}"), format::count(*n))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_counted_by_decade() {
        let histogram = Histogram::of(vec![5.0, 0.02, 0.0, 1.0, f64::NAN, 0.025, 9.9]);
        assert_eq!(histogram.decades, [(-2, 2), (-1, 0), (0, 3)]);
        assert_eq!((histogram.n, histogram.least, histogram.median, histogram.largest), (5, 0.02, 1.0, 9.9));
        let text = histogram.to_string();
        assert!(text.contains("    1e-1            0 \n") && text.contains(&"#".repeat(40)), "{text}");
    }

    #[test]
    fn of_nothing_it_is_empty() {
        assert_eq!(Histogram::of(vec![0.0]).decades, []);
    }
}
