//! Suggests a known word for a misspelt one.

/// The least Jaro–Winkler similarity, from 0 to 1, at which a known word is worth suggesting.
const NEAR_ENOUGH: f64 = 0.8;
/// The least number of characters for a match inside a longer word. Shorter words occur in too many others.
const SHORTEST_PART: usize = 3;

/// The word of `known` that `word` probably means, ignoring case: the most similar one, or else the shortest one that
/// contains it. `None` if nothing is near. Among equals the first of `known` wins.
#[must_use]
pub fn near<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let word = word.to_lowercase();
    let mut best: Option<(f64, &'a str)> = None;
    for &candidate in known {
        let similarity = strsim::jaro_winkler(&word, &candidate.to_lowercase());
        if similarity >= NEAR_ENOUGH && best.is_none_or(|(so_far, _)| similarity > so_far) {
            best = Some((similarity, candidate));
        }
    }
    if let Some((_, candidate)) = best {
        return Some(candidate);
    }
    if word.chars().count() < SHORTEST_PART {
        return None;
    }
    let longer = known.iter().copied().filter(|candidate| candidate.to_lowercase().contains(&word));
    longer.min_by_key(|candidate| candidate.len())
}

#[cfg(test)]
mod tests {
    use super::near;

    #[test]
    fn a_misspelt_word_finds_the_word_it_meant() {
        let known =
            ["timestamp", "open", "high", "low", "close", "volume", "environment_steps", "n_environments"];
        for (word, meant) in [
            ("Llow", Some("low")),
            ("OPEN", Some("open")),
            ("colse", Some("close")),
            ("n_env", Some("n_environments")),
            ("steps", Some("environment_steps")),
            ("enviroment_steps", Some("environment_steps")),
            ("zzz", None),
            ("", None),
        ] {
            assert_eq!(near(word, &known), meant, "{word}");
        }
    }

    #[test]
    fn nothing_is_near_where_nothing_is_known() {
        assert_eq!(near("low", &[]), None);
    }
}
