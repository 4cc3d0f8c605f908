//! Once a thread has encoded a chunk of a kind, encoding another one allocates the result and nothing else, so that chunks
//! that stay leave no holes between large allocations that are freed.
//!
//! It is a binary of its own because it counts the allocations of its heap.

use std::alloc::System;

use buffers::store::{Codec, Predictor, RowKind, RowShape, Transform, codec};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

#[test]
fn the_second_chunk_allocates_its_result_alone() {
    let shape = RowShape { kind: RowKind::F32, width: 8 };
    let rows = |seed: u32| -> Vec<u8> {
        (0..4096u32).flat_map(|at| ((at * 31 + seed) as f32 * 0.37).to_le_bytes()).collect()
    };
    for level in [0, 1, 2, 6] {
        for (transform, predictor) in Transform::ORDERS.into_iter().zip(Predictor::ALL) {
            let codec = Codec { transform, predictor, level };
            let _first = codec::encode(codec, shape, &rows(1));
            let others = rows(2);
            let region = Region::new(HEAP);
            let encoded = codec::encode(codec, shape, &others);
            let change = region.change();
            assert_eq!((change.allocations, change.reallocations), (1, 0), "{codec:?}");
            assert_eq!(change.bytes_allocated, encoded.len(), "{codec:?}");
            assert!(codec::decode(&encoded).is_ok_and(|decoded| decoded == others), "{codec:?}");
        }
    }
}
