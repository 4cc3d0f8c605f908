//! In a process of its own, whose every thread is refused. Outside of any step too, tensors and reservations are refused,
//! on every thread, each repetition of an attempt less often, and nothing within a commit.
#![allow(clippy::unwrap_used, reason = "a test fails where a step of it fails")]

use memsys::ledger::Owner;
use memsys::ledger::budget;
use memsys::ledger::reservation::Reservation;
use memsys::libtorch::count_tensors;
use tch::{Device, Kind, Tensor};

const EVERY: usize = 5;

fn is_refused(request: usize) -> bool {
    if request.is_multiple_of(2) {
        Tensor::f_zeros([10], (Kind::Float, Device::Cpu)).is_err()
    } else {
        let mut reservation = Reservation::declared(Owner::named("test/injected"));
        reservation.try_set(10).is_err()
    }
}

/// The numbers, from 1 on, of those of the next `n` requests that are refused.
fn refused(n: usize) -> Vec<usize> {
    (1..=n).filter(|request| is_refused(*request)).collect()
}

#[test]
fn every_thread_is_refused_in_every_phase_but_within_a_commit() {
    count_tensors().unwrap();
    assert_eq!(refused(50), Vec::<usize>::new());
    budget::inject_refusals(EVERY as u64);
    assert_eq!(refused(20), [5, 10, 15, 20]);
    assert_eq!(std::thread::spawn(|| refused(10)).join().unwrap(), [5, 10]);
    assert_eq!(budget::attempt(0, || refused(10)), [5, 10]);
    assert_eq!(budget::attempt(1, || refused(40)), [20, 40]);
    let of_another = || std::thread::spawn(|| refused(40)).join().unwrap();
    assert_eq!(budget::attempt(1, of_another), [20, 40], "a thread works for the attempt that is under way");
    assert_eq!(of_another(), [5, 10, 15, 20, 25, 30, 35, 40]);
    assert_eq!(budget::attempt(1, || budget::attempt(2, || refused(80))), [80]);
    assert_eq!(refused(5), [5], "the distance is that of the first attempt again");
    assert_eq!(budget::commit(|| refused(50)), Vec::<usize>::new());
    budget::inject_refusals(0);
    assert_eq!(budget::attempt(0, || refused(50)), Vec::<usize>::new());
}
