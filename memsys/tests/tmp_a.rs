#![allow(warnings, clippy::all)]
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};
use tch::{Device, Kind, Tensor};

fn random(shape: &[i64]) -> Tensor {
    Tensor::randn(shape, (Kind::Float, Device::Cpu))
}
fn parameters(w: i64) -> Vec<Tensor> {
    [vec![4 * w, w], vec![4 * w, w], vec![4 * w], vec![4 * w]].iter().map(|s| (random(s) * 0.1).set_requires_grad(true)).collect()
}
#[test]
fn changing_the_count_beside_an_lstm() {
    memsys::libtorch::count_tensors().unwrap();
    let seconds: u64 = std::env::var("SECONDS_").map_or(20, |s| s.parse().unwrap());
    let fresh = std::env::var("FRESH").is_ok();
    let ends = Instant::now() + Duration::from_secs(seconds);
    let (n_steps, n_sets) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for w in [64i64, 192] {
            let n_steps = &n_steps;
            scope.spawn(move || {
                let (x, p) = (random(&[8, 60, w]), parameters(w));
                let step = |x: &Tensor, p: &[Tensor], h: &[Tensor]| {
                    let (o, _, _) = x.f_lstm(h, p, true, 1, 0.0, true, false, true).unwrap();
                    o.square().mean(Kind::Float).f_backward().unwrap();
                    n_steps.fetch_add(1, SeqCst);
                };
                let h = || [Tensor::zeros([1, 8, w], (Kind::Float, Device::Cpu)), Tensor::zeros([1, 8, w], (Kind::Float, Device::Cpu))];
                while Instant::now() < ends {
                    if fresh {
                        let (x, p, h) = (x.shallow_clone(), p.iter().map(Tensor::shallow_clone).collect::<Vec<_>>(), h());
                        std::thread::scope(|s| { s.spawn(move || { 
                            let (o, _, _) = x.f_lstm(&h, &p, true, 1, 0.0, true, false, true).unwrap();
                            o.square().mean(Kind::Float).f_backward().unwrap();
                            n_steps.fetch_add(1, SeqCst);
                        }); });
                    } else {
                        step(&x, &p, &h());
                    }
                }
            });
        }
        scope.spawn(|| {
            let mut i = 0u64;
            while Instant::now() < ends {
                i += 1;
                tch::set_num_threads(1 + (i * 7 % 5) as i32 % 4);
                n_sets.fetch_add(1, SeqCst);
            }
        });
    });
    println!("steps {} sets {}", n_steps.load(SeqCst), n_sets.load(SeqCst));
}
