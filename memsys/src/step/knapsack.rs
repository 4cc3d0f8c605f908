//! The fastest choice for each stage of a chain under a budget of bytes: an exact knapsack whose load has a peak.
//!
//! ```text
//! held before stage k = first + Σ over j < k of held(j)
//! peak                = max over k of (held before stage k + transient(k))
//! time                = Σ over k of micros(k)
//! ```
//!
//! A recomputed stage holds little, but its activations return for a moment in backward. So the bytes of the stages do not
//! simply add up, and each stage has two numbers: what it holds from forward to backward, and the most that it needs while
//! it runs forward or backward, beyond what the stages before it hold.

/// What one choice for a stage costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Choice {
    /// Bytes from forward to backward. They are negative where the stage frees more of its input than it holds.
    pub(crate) held_bytes: i64,
    /// The most bytes during forward and backward of the stage, beyond what the stages before it hold.
    pub(crate) transient_bytes: i64,
    /// Microseconds, 0 or more.
    pub(crate) micros: f64,
}

/// The peak bytes of one choice for each stage.
pub(crate) fn peak_bytes(first_bytes: i64, chosen: impl IntoIterator<Item = Choice>) -> i64 {
    let (mut held, mut peak) = (first_bytes, first_bytes);
    for choice in chosen {
        peak = peak.max(held + choice.transient_bytes);
        held += choice.held_bytes;
    }
    peak
}

/// The lowest peak of any choices; `None` if a stage has no choice.
pub(crate) fn leanest_bytes(first_bytes: i64, stages: &[Vec<Choice>]) -> Option<i64> {
    // Whether a budget suffices depends on the bytes held alone, and fewer are never worse. So it takes the choice that
    // holds fewest of those that fit, stage by stage.
    let suffices = |budget: i64| {
        let held = stages.iter().try_fold(first_bytes, |held, choices| {
            let fits = choices.iter().filter(|choice| held + choice.transient_bytes <= budget);
            fits.map(|choice| held + choice.held_bytes).min()
        });
        held.is_some()
    };
    let worst = stages.iter().try_fold((first_bytes, first_bytes), |(held, peak), choices| {
        let most = |of: fn(&Choice) -> i64| choices.iter().map(of).max();
        Some((
            held + most(|choice| choice.held_bytes)?.max(0),
            peak.max(held + most(|choice| choice.transient_bytes)?),
        ))
    });
    let (mut too_low, mut enough) = (first_bytes - 1, worst?.1);
    while enough - too_low > 1 {
        let middle = too_low + (enough - too_low) / 2;
        if suffices(middle) { enough = middle } else { too_low = middle }
    }
    Some(enough)
}

/// A choice for each of the stages so far.
#[derive(Debug, Clone, Copy)]
struct Partial {
    held: i64,
    micros: f64,
    /// The index among the partial choices of the stage before.
    before: usize,
    choice: usize,
}

/// The index of one choice for each stage: those with the least time whose peak is at most `budget_bytes`, and of several
/// such ones those that hold fewest bytes in the end. `None` if the budget is too low.
///
/// Of two partial choices one can be dropped if it holds no fewer bytes and is no faster. What remains is the exact optimum.
pub(crate) fn fastest(first_bytes: i64, stages: &[Vec<Choice>], budget_bytes: i64) -> Option<Vec<usize>> {
    if first_bytes > budget_bytes {
        return None;
    }
    let mut steps: Vec<Vec<Partial>> =
        vec![vec![Partial { held: first_bytes, micros: 0.0, before: 0, choice: 0 }]];
    for choices in stages {
        let mut next = Vec::new();
        for (before, partial) in steps.last()?.iter().enumerate() {
            for (index, choice) in choices.iter().enumerate() {
                if partial.held + choice.transient_bytes <= budget_bytes {
                    let (held, micros) = (partial.held + choice.held_bytes, partial.micros + choice.micros);
                    next.push(Partial { held, micros, before, choice: index });
                }
            }
        }
        next.sort_by(|a, b| a.held.cmp(&b.held).then(a.micros.total_cmp(&b.micros)));
        let mut best = f64::INFINITY;
        next.retain(|partial| {
            let is_faster = partial.micros < best;
            best = best.min(partial.micros);
            is_faster
        });
        steps.push(next);
    }
    // The fastest holds most, so it is the last one.
    let mut at = steps.last()?.len().checked_sub(1)?;
    let mut chosen: Vec<usize> = steps[1..]
        .iter()
        .rev()
        .map(|partials| {
            let Partial { before, choice, .. } = partials[at];
            at = before;
            choice
        })
        .collect();
    chosen.reverse();
    Some(chosen)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stages() -> impl Strategy<Value = (i64, Vec<Vec<Choice>>)> {
        let choice = (-20i64..100, 0i64..200, 0u32..50).prop_map(|(held_bytes, more_bytes, micros)| Choice {
            held_bytes,
            transient_bytes: held_bytes.max(0) + more_bytes,
            micros: f64::from(micros),
        });
        (0i64..50, prop::collection::vec(prop::collection::vec(choice, 1..=3), 1..=8))
    }

    /// Every choice of all stages, with its peak and its time.
    fn all(first_bytes: i64, stages: &[Vec<Choice>]) -> Vec<(i64, f64)> {
        let n_choices: usize = stages.iter().map(Vec::len).product();
        let of = |mut number: usize| {
            let chosen: Vec<Choice> = stages
                .iter()
                .map(|choices| {
                    let choice = choices[number % choices.len()];
                    number /= choices.len();
                    choice
                })
                .collect();
            let micros = chosen.iter().map(|choice| choice.micros).sum();
            (peak_bytes(first_bytes, chosen), micros)
        };
        (0..n_choices).map(of).collect()
    }

    proptest! {
        #[test]
        fn the_choice_is_that_of_an_exhaustive_search((first, stages) in stages(), share in 0.0f64..1.2) {
            let every = all(first, &stages);
            let leanest = every.iter().map(|(peak, _)| *peak).min().unwrap();
            prop_assert_eq!(leanest_bytes(first, &stages), Some(leanest));
            prop_assert_eq!(fastest(first, &stages, leanest - 1), None);
            let most = every.iter().map(|(peak, _)| *peak).max().unwrap();
            let budget = leanest + ((most - leanest) as f64 * share) as i64;
            let fits = every.iter().filter(|(peak, _)| *peak <= budget);
            let best = fits.map(|(_, micros)| *micros).fold(f64::INFINITY, f64::min);
            let indices = fastest(first, &stages, budget).unwrap();
            let chosen: Vec<Choice> = indices.iter().zip(&stages).map(|(index, stage)| stage[*index]).collect();
            prop_assert!(peak_bytes(first, chosen.iter().copied()) <= budget);
            prop_assert_eq!(chosen.iter().map(|choice| choice.micros).sum::<f64>(), best);
        }
    }

    #[test]
    fn a_recomputed_stage_counts_its_return_in_backward() {
        let keep = Choice { held_bytes: 100, transient_bytes: 110, micros: 0.0 };
        let recompute = Choice { held_bytes: 10, transient_bytes: 120, micros: 5.0 };
        let stages = vec![vec![keep, recompute]; 3];
        // One stage after another: 10 + 10 + 120.
        assert_eq!(leanest_bytes(0, &stages), Some(130));
        assert_eq!(
            fastest(0, &stages, 130),
            Some(vec![1, 1, 0]),
            "the last stage gains nothing by recomputing"
        );
        assert_eq!(fastest(0, &stages, 310), Some(vec![0, 0, 0]));
        assert_eq!(fastest(0, &stages, 309).map(|chosen| chosen.iter().sum::<usize>()), Some(1));
        assert_eq!(fastest(0, &stages, 129), None);
    }
}
