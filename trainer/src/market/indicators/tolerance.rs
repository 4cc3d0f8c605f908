//! When two numbers are the same: rounding must decide nothing.
//!
//! Prices times 3 round otherwise than prices; a strict comparison of two numbers that are equal on paper would
//! then flip, and a whole feature with it.

/// Numbers whose difference is at most this fraction of the larger are equal.
pub const EQUAL_FRACTION: f64 = 1e-9;

/// True if `a` and `b` are equal within [`EQUAL_FRACTION`] of the larger of the two.
#[must_use]
pub fn same(a: f64, b: f64) -> bool {
    (a - b).abs() <= EQUAL_FRACTION * a.abs().max(b.abs())
}

/// True if `a` is strictly above `b`.
#[must_use]
pub fn above(a: f64, b: f64) -> bool {
    a > b && !same(a, b)
}

/// True if a distance (a difference of prices, a body, a range) is zero beside `price`.
#[must_use]
pub fn negligible(distance: f64, price: f64) -> bool {
    distance.abs() <= EQUAL_FRACTION * price.abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_billionth_of_the_price_is_no_difference() {
        assert!(same(100.0, 100.0 + 0.9e-7));
        assert!(!same(100.0, 100.0 + 1.1e-7));
        assert!(!above(100.0 + 0.9e-7, 100.0));
        assert!(above(100.0 + 1.1e-7, 100.0));
        assert!(!above(99.0, 100.0));
        assert!(same(0.0, 0.0));
        assert!(negligible(-0.9e-7, 100.0));
        assert!(!negligible(-1.1e-7, 100.0));
    }
}
