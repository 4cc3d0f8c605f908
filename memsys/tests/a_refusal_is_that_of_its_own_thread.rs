//! In a process of its own, which has a memory limit. What is refused elsewhere meanwhile makes no error a refusal.
#![allow(clippy::unwrap_used, reason = "a test fails where a step of it fails")]

use memsys::ledger::reservation::Reservation;
use memsys::ledger::{self, Owner, budget};
use memsys::libtorch::count_tensors;
use memsys::step::retry::StepRunner;
use tch::{Device, Kind, Tensor};

#[derive(Debug)]
struct Diverged;

impl From<memsys::Error> for Diverged {
    fn from(refused: memsys::Error) -> Self {
        panic!("{refused}")
    }
}

/// How often a step is made whose attempts fail after `refused` has run, at most `most` times, and whether it is done.
fn attempts(most: u32, refused: impl Fn()) -> (u32, bool) {
    let mut n_attempts = 0;
    let outcome = StepRunner::fixed(8).step(|_| {
        n_attempts += 1;
        refused();
        if n_attempts < most { Err(Diverged) } else { Ok(()) }
    });
    (n_attempts, outcome.is_ok())
}

fn reservation() {
    assert!(Reservation::declared(Owner::named("test/refused")).try_set(2 << 20).is_err());
}

fn cache() {
    assert!(!Reservation::declared(Owner::named("test/refused")).set_if_room(2 << 20));
}

fn tensor() {
    assert!(Tensor::f_zeros([1 << 20], (Kind::Float, Device::Cpu)).is_err());
}

/// More than a process can address.
fn tensor_of_no_system() {
    budget::set_limit(u64::MAX);
    assert!(Tensor::f_zeros([1 << 45], (Kind::Float, Device::Cpu)).is_err());
}

#[test]
fn a_step_is_tried_again_after_refusals_of_its_own_thread_alone() {
    count_tensors().unwrap();
    budget::set_limit(ledger::counted_bytes() + (1 << 20));
    let diverged = (1, false);
    for refused in [reservation as fn(), tensor] {
        assert_eq!(attempts(3, refused), (3, true));
        assert_eq!(attempts(3, || std::thread::spawn(refused).join().unwrap()), diverged);
    }
    assert_eq!(attempts(3, cache), diverged, "a cache that goes without fails nothing");
    assert_eq!(attempts(3, tensor_of_no_system), (3, true));
}
