//! In a process of its own, which has a memory limit and no global allocator that counts. Threads that ask at random,
//! for tensors and for reservations of both kinds, never pass the limit together.
#![allow(clippy::unwrap_used, reason = "a test fails where a step of it fails")]

use std::sync::Barrier;

use memsys::ledger::budget;
use memsys::ledger::reservation::Reservation;
use memsys::ledger::{self, Owner};
use memsys::libtorch::count_tensors;
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;
use tch::{Device, Kind, Tensor};

const N_THREADS: usize = 8;
const N_ROUNDS: usize = 2000;
const ROOM_BYTES: u64 = 8 << 20;

/// Asks until the room is full, and returns how often it was refused. Every round begins at once on all threads.
fn ask(seed: u64, begins: &Barrier) -> usize {
    let owner = Owner::named("test/asks");
    let _owner = owner.enter();
    let mut rng = Pcg64Mcg::seed_from_u64(seed);
    let mut n_refused = 0;
    for _ in 0..N_ROUNDS {
        let (mut tensors, mut reservations) = (Vec::new(), Vec::new());
        begins.wait();
        for _ in 0..6 {
            let bytes = rng.random_range(1..ROOM_BYTES as i64 / 8);
            let granted = match rng.random_range(0..3) {
                0 => {
                    let made = Tensor::f_empty([bytes], (Kind::Int8, Device::Cpu));
                    made.map(|tensor| tensors.push(tensor)).is_ok()
                }
                kind => {
                    let mut reservation = match kind {
                        1 => Reservation::declared(owner),
                        _ => Reservation::of_heap(owner),
                    };
                    let granted = reservation.try_set(bytes as u64).is_ok();
                    reservations.push(reservation);
                    granted
                }
            };
            n_refused += usize::from(!granted);
            if !granted {
                break;
            }
        }
        // Nobody gives back before all have asked.
        begins.wait();
    }
    n_refused
}

#[test]
fn threads_that_ask_at_once_never_pass_the_limit() {
    count_tensors().unwrap();
    assert!(!ledger::counts_heap());
    let mut in_heap = Reservation::of_heap(Owner::named("test/heap"));
    in_heap.try_set(5 << 20).unwrap();
    in_heap.set(5 << 20);
    assert_eq!(ledger::counted_bytes(), 5 << 20, "what no allocator counts is declared");
    drop(in_heap);

    let limit_bytes = ledger::counted_bytes() + ROOM_BYTES;
    budget::set_limit(limit_bytes);
    ledger::restart_peak();
    let begins = &Barrier::new(N_THREADS);
    let n_refused: usize = std::thread::scope(|scope| {
        let asking: Vec<_> =
            (0..N_THREADS as u64).map(|seed| scope.spawn(move || ask(seed, begins))).collect();
        asking.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    let peak_bytes = ledger::peak_counted_bytes();
    assert!(peak_bytes <= limit_bytes, "{peak_bytes} of {limit_bytes}");
    assert!(peak_bytes > limit_bytes - ROOM_BYTES / 8 && n_refused > N_ROUNDS, "{peak_bytes} {n_refused}");
    budget::set_limit(u64::MAX);
    budget::collect(u64::MAX);
    assert_eq!((ledger::counted_bytes(), ledger::verify_sum()), (limit_bytes - ROOM_BYTES, Ok(())));
}
