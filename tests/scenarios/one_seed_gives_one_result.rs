//! The same seed gives the same weights to the bit, another seed others.

use tests::{run_well, short_train, summary};

#[test]
fn the_same_seed_twice_gives_one_sha_and_another_seed_another() {
    let folder = tempfile::tempdir().unwrap();
    let weights = |out: &str, seed: &str| {
        run_well(folder.path(), &short_train(&["--steps", "900", "--out", out, "--seed", seed]));
        summary(&folder.path().join(out))["weights_sha256"].as_str().unwrap().to_owned()
    };
    let first = weights("first", "5");
    assert_eq!(weights("second", "5"), first);
    assert_ne!(weights("third", "6"), first);
}
