//! In a process of its own, which begins to count late: blocks that oneDNN got before go back to where they came from.
#![allow(clippy::unwrap_used, reason = "a test fails where a step of it fails")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use memsys::ledger;
use memsys::libtorch::count_tensors;
use tch::{Device, Kind, Tensor};

const WIDTH: i64 = 64;

fn random(shape: &[i64]) -> Tensor {
    Tensor::randn(shape, (Kind::Float, Device::Cpu))
}

/// One step of oneDNN's LSTM, forward and backward.
fn lstm_step(x: &Tensor, parameters: &[Tensor]) {
    let zeros = || Tensor::zeros([1, x.size()[0], WIDTH], (Kind::Float, Device::Cpu));
    let (output, _, _) = x.f_lstm(&[zeros(), zeros()], parameters, true, 1, 0.0, true, false, true).unwrap();
    output.square().mean(Kind::Float).f_backward().unwrap();
}

fn parameters() -> Vec<Tensor> {
    [vec![4 * WIDTH, WIDTH], vec![4 * WIDTH, WIDTH], vec![4 * WIDTH], vec![4 * WIDTH]]
        .iter()
        .map(|shape| (random(shape) * 0.1).set_requires_grad(true))
        .collect()
}

/// One test, so that nothing else allocates beside it. oneDNN frees through the allocator that libtorch has then, whoever
/// gave the block.
#[test]
fn what_is_older_than_the_count_is_given_back_and_was_never_counted() {
    // A block of the C library's heap, and one that would have a mapping of its own.
    let older = [random(&[64]), random(&[1 << 20])].map(|dense| (dense.to_mkldnn(), dense));
    let (counts, n_steps) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let (x, parameters) = (random(&[8, 60, WIDTH]), parameters());
                while n_steps.fetch_add(1, SeqCst) < 200 || !counts.load(SeqCst) {
                    lstm_step(&x, &parameters);
                }
            });
        }
        while n_steps.load(SeqCst) < 20 {
            std::thread::yield_now();
        }
        // Both threads are somewhere within a step.
        count_tensors().unwrap();
        counts.store(true, SeqCst);
    });
    drop(older);
    assert_eq!(ledger::tensor_bytes(), 0, "what is alive is older");

    let newer = [random(&[64]), random(&[1 << 20])].map(|dense| (dense.to_mkldnn(), dense));
    assert!(ledger::tensor_bytes() >= 2 * 4 * (64 + (1 << 20)));
    drop(newer);
    assert_eq!(ledger::tensor_bytes(), 0);
}
