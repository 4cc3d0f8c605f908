//! The residual that the memory limit sets room aside for: the highest of the latest readings.
//!
//! Bytes that are resident and not counted come and go: a library's scratch memory, fragments of the heap, memory that was
//! freed and not trimmed. The room set aside follows them up at once and down after [`N_READINGS`] lower readings, or after
//! the heap was trimmed. It has no clock and does no I/O.

/// Number of readings that a high one is remembered for: a minute at the default interval.
const N_READINGS: usize = 12;

/// The latest residuals.
#[derive(Debug, Default)]
pub(crate) struct Residuals {
    latest_bytes: [u64; N_READINGS],
    n_readings: usize,
    n_trims: u64,
}

impl Residuals {
    /// Takes in a reading of the residual, after which the heap has been trimmed `n_trims` times. Returns the bytes to set
    /// aside.
    pub(crate) fn observe(&mut self, residual_bytes: u64, n_trims: u64) -> u64 {
        if n_trims != self.n_trims {
            // What was read before may have been freed heap.
            *self = Self { n_trims, ..Self::default() };
        }
        self.latest_bytes[self.n_readings % N_READINGS] = residual_bytes;
        self.n_readings += 1;
        self.latest_bytes.iter().copied().max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_reading_held_is_given_back_after_a_window_of_lower_ones() {
        let mut residuals = Residuals::default();
        assert_eq!(residuals.observe(10, 0), 10);
        assert_eq!(residuals.observe(300, 0), 300);
        let after: Vec<u64> = (0..N_READINGS).map(|_| residuals.observe(20, 0)).collect();
        assert_eq!(after[..N_READINGS - 1], [300; N_READINGS - 1]);
        assert_eq!(after[N_READINGS - 1], 20);
    }

    #[test]
    fn a_trim_ends_what_was_read_before_it() {
        let mut residuals = Residuals::default();
        assert_eq!(residuals.observe(300, 0), 300);
        assert_eq!(residuals.observe(20, 1), 20);
        assert_eq!(residuals.observe(30, 1), 30);
        assert_eq!(residuals.observe(20, 1), 30);
    }
}
