//! The same seed gives the same weights to the bit, and another seed gives others.

use tests::{run_well, short_train, weights_sha256};

#[test]
fn the_same_seed_twice_gives_one_sha_and_another_seed_another() {
    let folder = tempfile::tempdir().unwrap();
    let weights = |out: &str, seed: &str| {
        run_well(folder.path(), &short_train(&["--steps", "900", "--out", out, "--seed", seed]));
        weights_sha256(&folder.path().join(out))
    };
    let first = weights("first", "5");
    assert_eq!(weights("second", "5"), first);
    assert_ne!(weights("third", "6"), first);
}
