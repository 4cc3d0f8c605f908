//! Seeds for parts of a run.

/// A seed for one part of what `seed` stands for. Seeds of neighbouring parts have nothing in common (Steele et al.
/// 2014, the finaliser of SplitMix64).
#[must_use]
pub fn mix_seed(seed: u64, part: u64) -> u64 {
    let mut z = seed.wrapping_add(part.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_those_of_splitmix64() {
        // The first three outputs of java.util.SplittableRandom's generator from seed 1234567.
        let expected = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!([0, 1, 2].map(|part| mix_seed(1_234_567, part)), expected);
    }
}
