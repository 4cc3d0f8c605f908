#![allow(warnings, clippy::all)]
use std::hint::black_box;
use std::time::Instant;
use tch::{Device, Kind, Tensor};
// A tensor made and dropped, and 512 alive at once, at several sizes; ns per tensor, the least of 15.
fn per_tensor(bytes: i64, alive: usize) -> f64 {
    let n = 100_000 / alive * alive;
    (0..15).map(|_| {
        let began = Instant::now();
        let mut held = Vec::with_capacity(alive);
        for _ in 0..n / alive {
            for _ in 0..alive { held.push(black_box(Tensor::f_empty([bytes], (Kind::Uint8, Device::Cpu)).unwrap())); }
            held.clear();
        }
        began.elapsed().as_nanos() as f64 / n as f64
    }).fold(f64::MAX, f64::min)
}
#[test]
fn bench() {
    for counted in [false, true] {
        if counted { memsys::libtorch::count_tensors().unwrap(); }
        for bytes in [64, 1024, 32 << 10, 128 << 10] {
            for alive in [1, 512] {
                if counted || bytes < 65536 { println!("BENCH counted={counted} bytes={bytes} alive={alive} {:.1} ns", per_tensor(bytes, alive)); }
            }
        }
    }
}
