//! Which line of its file each row stands in, in few bytes: most rows stand in the line after that of the row before.

/// The lines of rows, in the order of the rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Lines {
    n_rows: usize,
    /// The first row of each run of consecutive lines, and its line.
    runs: Vec<(usize, u64)>,
}

impl Lines {
    /// Appends a row.
    pub(super) fn push(&mut self, line: u64) {
        let is_next = self.runs.last().is_some_and(|(row, first)| first + (self.n_rows - row) as u64 == line);
        if !is_next {
            self.runs.push((self.n_rows, line));
        }
        self.n_rows += 1;
    }

    /// The line of a row, counted from 0.
    pub(super) fn of(&self, row: usize) -> u64 {
        let run = self.runs.partition_point(|(first, _)| *first <= row).saturating_sub(1);
        self.runs.get(run).map_or(0, |(first, line)| line + (row - first) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_row_keeps_its_line(lines in prop::collection::vec(0..20u64, 0..50)) {
            let mut kept = Lines::default();
            lines.iter().for_each(|line| kept.push(*line));
            let read: Vec<u64> = (0..lines.len()).map(|row| kept.of(row)).collect();
            prop_assert_eq!(read, lines);
        }
    }

    #[test]
    fn consecutive_lines_take_no_bytes() {
        let mut lines = Lines::default();
        (2..1_000).for_each(|line| lines.push(line));
        assert_eq!(lines.runs.len(), 1);
    }
}
