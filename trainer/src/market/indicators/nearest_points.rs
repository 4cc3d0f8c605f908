//! Labelled points of the plane, and the mean label of those nearest to a query.
//!
//! Every query scans every point: over ten thousand points a scan of two flat arrays takes a few microseconds, and
//! a tree that also forgets its oldest points would not be faster.

/// Points this much nearer are nearer: of the distance, or of 1 where the distance is below that.
const TIE: f64 = 1e-9;
/// Points looked at together, so that the common case, none of them near, is one branch.
const BLOCK: usize = 32;

/// The newest `capacity` labelled points.
#[derive(Debug, Clone)]
pub struct NearestPoints {
    capacity: usize,
    xs: Vec<f64>,
    ys: Vec<f64>,
    labels: Vec<f64>,
    /// Squared distances of the last query, newest point last.
    distances: Vec<f64>,
    /// The smallest squared distances met so far, sorted.
    smallest: Vec<f64>,
    /// Labels of the points that tie for the last places, newest first.
    ties: Vec<f64>,
}

impl NearestPoints {
    /// An empty store that forgets its oldest point beyond `capacity`.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            xs: Vec::new(),
            ys: Vec::new(),
            labels: Vec::new(),
            distances: Vec::new(),
            smallest: Vec::new(),
            ties: Vec::new(),
        }
    }

    /// Adds a point as the newest.
    pub fn push(&mut self, (x, y): (f64, f64), label: f64) {
        // Twice the capacity, then half is dropped at once: the points stay contiguous and in order of age.
        if self.labels.len() >= 2 * self.capacity {
            let outdated = self.labels.len() - self.capacity;
            for column in [&mut self.xs, &mut self.ys, &mut self.labels] {
                column.drain(..outdated);
            }
        }
        self.xs.push(x);
        self.ys.push(y);
        self.labels.push(label);
    }

    /// The mean label of the `n` points nearest to `(x, y)` by Euclidean distance. Of points that tie with the
    /// n-th, the newer are taken. The mean of all points if there are fewer than `n`; 0 if there is none.
    ///
    /// Distances tie with the n-th smallest if they differ from it by at most 1e-9 of it (of 1 if it is below 1:
    /// coordinates are of the order of 10 to 100, and the rounding of their difference is not relative to it).
    #[must_use]
    pub fn mean_label(&mut self, (x, y): (f64, f64), n: usize) -> f64 {
        let outdated = self.labels.len().saturating_sub(self.capacity);
        let labels = &self.labels[outdated..];
        if n == 0 || labels.is_empty() {
            return 0.0;
        }
        if labels.len() <= n {
            return labels.iter().sum::<f64>() / labels.len() as f64;
        }
        let points = self.xs[outdated..].iter().zip(&self.ys[outdated..]);
        self.distances.clear();
        self.distances.extend(points.map(|(px, py)| (px - x) * (px - x) + (py - y) * (py - y)));

        let farthest = nth_smallest(&self.distances, n, &mut self.smallest).sqrt();
        let tie = TIE * farthest.max(1.0);
        let inner = (farthest - tie).max(0.0).powi(2);
        let outer = (farthest + tie).powi(2);
        let (mut n_inside, mut sum) = (0, 0.0);
        self.ties.clear();
        for (distances, labels) in self.distances.chunks(BLOCK).zip(labels.chunks(BLOCK)).rev() {
            if !any_up_to(distances, outer) {
                continue;
            }
            for (distance, label) in distances.iter().zip(labels).rev() {
                if *distance < inner {
                    n_inside += 1;
                    sum += label;
                } else if *distance <= outer {
                    self.ties.push(*label);
                }
            }
        }
        (sum + self.ties.iter().take(n - n_inside).sum::<f64>()) / n as f64
    }
}

/// The `n`-th smallest of at least `n` values; `smallest` is scratch.
fn nth_smallest(values: &[f64], n: usize, smallest: &mut Vec<f64>) -> f64 {
    smallest.clear();
    let mut bound = f64::INFINITY;
    for block in values.chunks(BLOCK) {
        if !any_up_to(block, bound) {
            continue;
        }
        for value in block {
            if *value < bound || smallest.len() < n {
                let place = smallest.partition_point(|smaller| smaller <= value);
                smallest.insert(place, *value);
                smallest.truncate(n);
                if smallest.len() == n {
                    bound = smallest[n - 1];
                }
            }
        }
    }
    bound
}

/// True if a value is at most `bound`; without a branch a value, so that it runs in vectors.
fn any_up_to(values: &[f64], bound: f64) -> bool {
    values.iter().fold(false, |any, value| any | (*value <= bound))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All points sorted by distance, then by age.
    fn naive(points: &[((f64, f64), f64)], capacity: usize, (x, y): (f64, f64), n: usize) -> f64 {
        let kept = &points[points.len().saturating_sub(capacity)..];
        let mut order: Vec<(f64, usize)> =
            kept.iter().enumerate().map(|(i, ((px, py), _))| ((px - x).hypot(py - y), i)).collect();
        order.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)));
        order.truncate(n);
        if order.is_empty() {
            return 0.0;
        }
        order.iter().map(|(_, i)| kept[*i].1).sum::<f64>() / order.len() as f64
    }

    proptest! {
        #[test]
        fn the_scan_equals_sorting_all_points(
            points in prop::collection::vec((0..12i32, 0..12i32, any::<bool>()), 0..200),
            (x, y) in (0..12i32, 0..12i32),
            capacity in 1usize..120,
        ) {
            let points: Vec<_> = points.iter().map(|(x, y, up)| {
                ((f64::from(*x), f64::from(*y)), if *up { 1.0 } else { -1.0 })
            }).collect();
            let mut store = NearestPoints::new(capacity);
            for (point, label) in &points {
                store.push(*point, *label);
            }
            let asked = (f64::from(x), f64::from(y));
            prop_assert_eq!(store.mean_label(asked, 10), naive(&points, capacity, asked, 10));
        }
    }

    #[test]
    fn of_points_that_tie_the_newer_answer() {
        let mut store = NearestPoints::new(100);
        store.push((10.0, 10.0), 1.0);
        for label in [-1.0, -1.0, 1.0] {
            store.push((13.0, 10.0), label);
        }
        // A rounding error nearer, but older than the last.
        store.push((13.0 - 1e-12, 10.0), 1.0);
        assert_eq!(store.mean_label((10.0, 10.0), 3), 1.0);
        assert_eq!(store.mean_label((10.0, 10.0), 4), 0.5);
        assert_eq!(NearestPoints::new(5).mean_label((1.0, 1.0), 10), 0.0);
    }
}
