//! The embedding cache gives the result of the plain target network.

use crate::agent::Agent;
use crate::tests::fixture::{config, learner_and_batches};
use crate::tests::rng_lock;

#[test]
fn cached_embeddings_give_the_result_of_the_plain_update() {
    let _lock = rng_lock::lock();
    let (mut cached, batches) = learner_and_batches(config(50), 12, 32);
    let (mut plain, _) = learner_and_batches(config(50), 0, 32);
    assert!(cached.td.target.has_cache(), "the test is of cached embeddings");
    plain.disable_caches();
    for batch in &batches {
        let found = cached.step(batch, 32).unwrap().td_errors;
        let expected = plain.step(batch, 32).unwrap().td_errors;
        let largest = expected.iter().fold(0f32, |largest, error| largest.max(error.abs()));
        assert!(expected.iter().zip(&found).all(|(a, b)| (a - b).abs() < 1e-5 * largest));
    }
    // Adam moves a weight by up to 1e-3 per step, whatever the size of its gradient: a tenth of the way of twelve.
    let difference = (cached.online().flat() - plain.online().flat()).abs().max().double_value(&[]);
    assert!(difference < 1.2e-3, "{difference}");
}
