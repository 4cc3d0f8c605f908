//! In a process of its own, which sets the number of threads after its first tensor.
#![allow(clippy::unwrap_used, reason = "a test fails where a step of it fails")]

use memsys::Error;
use memsys::libtorch::set_threads_once;
use tch::{Device, Kind, Tensor};

#[test]
fn after_the_first_tensor_libtorchs_own_number_stays() {
    let _first = Tensor::zeros([1], (Kind::Float, Device::Cpu));
    let own = tch::get_num_threads();
    let refused = set_threads_once(own + 1);
    assert!(matches!(refused, Err(Error::ThreadsAreSet { set, .. }) if set == own), "{refused:?}");
    assert_eq!(tch::get_num_threads(), own);
    set_threads_once(own).unwrap();
    let elsewhere = std::thread::spawn(tch::get_num_threads).join().unwrap();
    assert_eq!(elsewhere, own);
}
