//! Fewer points than a series has, and the same picture.
//!
//! A curve of 15,000 bars on a chart 900 pixels wide shows at each pixel only where it enters, how far it goes up and
//! down, and where it leaves. Keeping the lowest and the highest point of each column keeps every spike; sampling every
//! n-th point would lose them.

/// Points in the order of x, finite, at most two a column and the first and the last of all.
///
/// `points` are in the order of x; those that are not finite are left out, and the line runs across them.
pub(super) fn thin(points: &[(f64, f64)], n_columns: usize) -> Vec<(f64, f64)> {
    let finite: Vec<_> = points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite()).collect();
    if finite.len() <= 2 * n_columns.max(1) {
        return finite;
    }
    let (first, last) = (finite[0], finite[finite.len() - 1]);
    let width = (last.0 - first.0) / n_columns as f64;
    let mut thinned = vec![first];
    let column = |x: f64| if width > 0.0 { ((x - first.0) / width) as usize } else { 0 };
    for points in finite.chunk_by(|a, b| column(a.0) == column(b.0)) {
        let mut lowest = 0;
        let mut highest = 0;
        for (at, point) in points.iter().enumerate() {
            if point.1 < points[lowest].1 {
                lowest = at;
            }
            if point.1 > points[highest].1 {
                highest = at;
            }
        }
        thinned.push(points[lowest.min(highest)]);
        if lowest != highest {
            thinned.push(points[lowest.max(highest)]);
        }
    }
    thinned.push(last);
    thinned.dedup();
    thinned
}

/// The positions of one column of bars.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct PositionColumn {
    /// Its first bar.
    pub(super) from: usize,
    /// The first bar after it.
    pub(super) to: usize,
    /// The position that it held longest; ties go to flat, then to long.
    pub(super) most: i8,
    /// Mean position, in [-1, 1].
    pub(super) mean: f64,
}

/// Cuts the bars into at most `n_columns` columns of (nearly) equal length.
pub(super) fn position_columns(position: &[i8], n_columns: usize) -> Vec<PositionColumn> {
    let n_columns = n_columns.clamp(1, position.len().max(1)).min(position.len());
    (0..n_columns)
        .map(|column| {
            let from = column * position.len() / n_columns;
            let to = (column + 1) * position.len() / n_columns;
            let bars = &position[from..to];
            let n_long = bars.iter().filter(|&&position| position > 0).count();
            let n_short = bars.iter().filter(|&&position| position < 0).count();
            let n_flat = bars.len() - n_long - n_short;
            let most = if n_flat >= n_long.max(n_short) {
                0
            } else if n_long >= n_short {
                1
            } else {
                -1
            };
            PositionColumn { from, to, most, mean: (n_long as f64 - n_short as f64) / bars.len() as f64 }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_series_is_kept_as_it_is() {
        let points: Vec<_> = (0..10).map(|i| (i as f64, (i * i) as f64)).collect();
        assert_eq!(thin(&points, 5), points);
        assert_eq!(thin(&[], 5), []);
    }

    #[test]
    fn a_long_series_keeps_its_ends_and_every_spike() {
        let mut points: Vec<_> = (0..100_000).map(|i| (i as f64, (i as f64 * 0.01).sin())).collect();
        points[54_321].1 = 40.0;
        points[54_322].1 = -30.0;
        let thinned = thin(&points, 500);
        assert!(thinned.len() <= 1_004, "{}", thinned.len());
        assert_eq!(thinned.first(), points.first());
        assert_eq!(thinned.last(), points.last());
        assert!(thinned.contains(&(54_321.0, 40.0)) && thinned.contains(&(54_322.0, -30.0)));
        assert!(thinned.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn points_that_are_not_finite_are_left_out() {
        let points = [(0.0, 1.0), (1.0, f64::NAN), (2.0, 3.0), (f64::INFINITY, 1.0)];
        assert_eq!(thin(&points, 5), [(0.0, 1.0), (2.0, 3.0)]);
    }

    #[test]
    fn columns_of_positions_cover_every_bar_once() {
        let position: Vec<i8> = (0..1_003).map(|i| [(-1), 0, 1, 1][i % 4]).collect();
        let columns = position_columns(&position, 100);
        assert_eq!(columns.len(), 100);
        assert_eq!(columns[0].from, 0);
        assert_eq!(columns[99].to, 1_003);
        assert!(columns.windows(2).all(|pair| pair[0].to == pair[1].from));
        assert!(columns.iter().all(|column| column.most == 1 && column.mean > 0.0));
        assert_eq!(position_columns(&[-1, -1, 0], 900).len(), 3);
        assert_eq!(position_columns(&[], 900), []);
    }
}
