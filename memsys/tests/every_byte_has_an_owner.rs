//! The ledger's sums equal those computed by hand, to the byte, and the budget collects and refuses by them. It runs in a
//! separate process in which every tensor is counted.
#![allow(clippy::unwrap_used, reason = "a test fails where a step of it fails")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use memsys::Error;
use memsys::ledger::budget::{self, CollectOrder};
use memsys::ledger::{self, Owner};
use memsys::libtorch::count_tensors;
use memsys::os::CountedHeap;
use tch::{Device, Kind, Tensor};

#[global_allocator]
static HEAP: CountedHeap = CountedHeap;

fn zeros(sizes: &[i64]) -> Tensor {
    Tensor::f_zeros(sizes, (Kind::Float, Device::Cpu)).unwrap()
}

/// One test, so that no other test allocates at the same time.
#[test]
fn counted_bytes_are_those_by_hand_and_what_passes_the_limit_is_refused() {
    count_tensors().unwrap();
    let (first, second) = (Owner::named("test/first"), Owner::named("test/second"));

    let mut held = Vec::new();
    let mut by_hand = [0u64; 2];
    for (index, owner) in [first, second].into_iter().enumerate() {
        let _owner = owner.enter();
        for sizes in [[1, 1], [3, 7], [100, 100], [128, 2048], [511, 1023]] {
            held.push(zeros(&sizes));
            by_hand[index] += (sizes[0] * sizes[1] * 4) as u64;
        }
        // A view adds no bytes.
        held.push(held[0].view([1]));
    }
    assert_eq!([first.tensor_bytes(), second.tensor_bytes()], by_hand);
    let mut owners = Vec::new();
    ledger::read_owners(&mut owners);
    // Between the reading of the owners and that of the sum only the vector of owners may grow.
    let sum: u64 = owners.iter().map(|owner| owner.bytes).sum();
    assert!(sum.abs_diff(ledger::counted_bytes()) < 16 << 10, "{sum} {}", ledger::counted_bytes());
    held.clear();
    assert_eq!([first.tensor_bytes(), second.tensor_bytes()], [0, 0]);
    assert_eq!([first.peak_bytes(), second.peak_bytes()], by_hand);

    // A million floats do not fit under a memory limit that is 2 MiB above what is held; a quarter of them does.
    budget::collect(u64::MAX);
    budget::set_limit(ledger::counted_bytes() + (2 << 20));
    let _owner = first.enter();
    let refused = Tensor::f_zeros([1_000_000], (Kind::Float, Device::Cpu));
    assert!(refused.is_err());
    let refusal = budget::take_refusal().unwrap();
    assert_eq!((refusal.owner, refusal.wanted_bytes >= 4_000_000), (first, true));
    let said = Error::Refused(refusal).to_string();
    assert!(said.contains("test/first asked for 3.8 MiB") && said.contains("largest owners"), "{said}");
    assert!(budget::take_refusal().is_none(), "a refusal is taken once");
    let fits = zeros(&[250_000]);
    // A cached block makes room for the next tensor.
    drop(fits);
    assert!(ledger::CACHE.bytes() >= 1_000_000);
    let other = zeros(&[400_000]);
    assert_eq!(first.tensor_bytes(), 1_600_000);
    drop(other);
    // The allocator asks from within libtorch, which a panic must not unwind.
    budget::add_collector(CollectOrder::OtherCaches, Box::new(|_| panic!("a collector that fails")));
    assert!(Tensor::f_zeros([1_000_000], (Kind::Float, Device::Cpu)).is_err());
    assert_eq!(budget::take_refusal().map(|refusal| refusal.owner), Some(first));
    budget::set_limit(u64::MAX);

    let before = ledger::HEAP.bytes();
    let numbers = vec![1u8; 3 << 20];
    assert!(ledger::HEAP.bytes() >= before + (3 << 20));
    drop(numbers);
    assert!(ledger::HEAP.bytes() < before + (1 << 16));

    collectors_are_asked_in_order_for_what_is_missing();
}

fn collectors_are_asked_in_order_for_what_is_missing() {
    static ASKED: Mutex<Vec<(&str, u64)>> = Mutex::new(Vec::new());
    let collector = |name, gives| -> Box<budget::Collect> {
        Box::new(move |wanted| {
            ASKED.lock().unwrap().push((name, wanted));
            gives
        })
    };
    budget::add_collector(CollectOrder::OtherCaches, collector("first other", 100));
    budget::add_collector(CollectOrder::OtherCaches, collector("second other", 7));
    let collect = |wanted| (budget::collect(wanted), std::mem::take(&mut *ASKED.lock().unwrap()));

    budget::collect(u64::MAX);
    ASKED.lock().unwrap().clear();
    assert_eq!(ledger::CACHE.bytes(), 0, "freed blocks of tensors are collected");
    assert_eq!(collect(1000), (107, vec![("first other", 1000), ("second other", 900)]));
    assert_eq!(collect(0), (107, vec![("first other", 0), ("second other", 0)]));

    drop(zeros(&[250_000]));
    let cached_bytes = ledger::CACHE.bytes();
    assert!(cached_bytes >= 1_000_000);
    let asked = vec![("first other", 0), ("second other", 0)];
    assert_eq!(collect(1), (cached_bytes + 107, asked), "blocks of tensors come first and are given whole");

    static FORGOTTEN: AtomicU64 = AtomicU64::new(0);
    budget::add_peaks(Box::new(|| FORGOTTEN.store(FORGOTTEN.load(Relaxed) + 1, Relaxed)));
    budget::begin_anew();
    assert_eq!(FORGOTTEN.load(Relaxed), 1);
}
