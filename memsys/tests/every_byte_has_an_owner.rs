//! In a process of its own, in which every tensor is counted: the ledger's sums are those by hand, to the byte.
#![allow(clippy::unwrap_used, reason = "a test fails where a step of it fails")]

use memsys::ledger::{self, Owner};
use memsys::libtorch::{CountedHeap, count_tensors};
use memsys::{Error, budget};
use tch::{Device, Kind, Tensor};

#[global_allocator]
static HEAP: CountedHeap = CountedHeap;

fn zeros(sizes: &[i64]) -> Tensor {
    Tensor::f_zeros(sizes, (Kind::Float, Device::Cpu)).unwrap()
}

/// One test, so that nothing else allocates beside it.
#[test]
fn counted_bytes_are_those_by_hand_and_what_passes_the_line_is_refused() {
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
        // A view holds nothing of its own.
        held.push(held[0].view([1]));
    }
    assert_eq!([first.tensor_bytes(), second.tensor_bytes()], by_hand);
    let mut owners = Vec::new();
    ledger::read_owners(&mut owners);
    // Between reading the owners and reading the sum only the vector of owners itself may grow.
    let sum: u64 = owners.iter().map(|owner| owner.bytes).sum();
    assert!(sum.abs_diff(ledger::counted_bytes()) < 16 << 10, "{sum} {}", ledger::counted_bytes());
    held.clear();
    assert_eq!([first.tensor_bytes(), second.tensor_bytes()], [0, 0]);
    assert_eq!([first.peak_bytes(), second.peak_bytes()], by_hand);

    // A million floats do not fit under a line a MiB above what is held; a quarter of that does.
    budget::collect(u64::MAX);
    budget::set_limit(ledger::counted_bytes() + (2 << 20));
    let _owner = first.enter();
    let refused = Tensor::f_zeros([1_000_000], (Kind::Float, Device::Cpu));
    assert!(refused.is_err());
    let refusal = budget::take_refusal().unwrap();
    assert_eq!((refusal.owner, refusal.wanted_bytes >= 4_000_000), (first, true));
    let said = Error::Refused(refusal).to_string();
    assert!(said.contains("test/first asked for 3.8 MiB") && said.contains("largest owners"), "{said}");
    assert!(budget::take_refusal().is_none(), "a refusal is told once");
    let fits = zeros(&[250_000]);
    // What is only cached makes room.
    drop(fits);
    assert!(ledger::CACHE.bytes() >= 1_000_000);
    let other = zeros(&[400_000]);
    assert_eq!(first.tensor_bytes(), 1_600_000);
    drop(other);
    // The allocator asks from within libtorch, which a panic must not unwind.
    budget::add_collector(Box::new(|_| panic!("a collector that fails")));
    assert!(Tensor::f_zeros([1_000_000], (Kind::Float, Device::Cpu)).is_err());
    assert_eq!(budget::take_refusal().map(|refusal| refusal.owner), Some(first));
    budget::set_limit(u64::MAX);

    let before = ledger::HEAP.bytes();
    let numbers = vec![1u8; 3 << 20];
    assert!(ledger::HEAP.bytes() >= before + (3 << 20));
    drop(numbers);
    assert!(ledger::HEAP.bytes() < before + (1 << 16));
}
