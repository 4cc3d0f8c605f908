//! The ledger's sums equal those computed by hand, to the byte, and the budget collects and refuses by them. It runs in a
//! separate process in which every tensor is counted.
#![allow(clippy::unwrap_used, reason = "a test fails where a step of it fails")]

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use memsys::Error;
use memsys::ledger::budget;
use memsys::ledger::reclaimable::{self, Generation, Reclaimable};
use memsys::ledger::refusal::RefusedBy;
use memsys::ledger::reservation::Reservation;
use memsys::ledger::{self, CACHE, HEAP as RUST_HEAP, Owner, ROUNDING};
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
    owners_add_up();
    // What can be collected is told from what live tensors hold beyond their bytes.
    let rounding_bytes = ROUNDING.bytes();
    assert!(rounding_bytes > 0);
    budget::collect(u64::MAX);
    assert_eq!((CACHE.bytes(), budget::collectable_bytes()), (0, 0));
    assert_eq!(ROUNDING.bytes(), rounding_bytes);
    held.clear();
    assert_eq!((ROUNDING.bytes(), budget::collectable_bytes()), (0, CACHE.bytes()));
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
    let _panics = reclaimable::register(Arc::new(Holder { name: "panics", gives: 0 }));
    for _ in 0..2 {
        assert!(Tensor::f_zeros([1_000_000], (Kind::Float, Device::Cpu)).is_err());
        assert_eq!(budget::take_refusal().map(|refusal| refusal.owner), Some(first));
    }
    assert_eq!(reclaimable::panicked(), ["panics"], "it is told, and not asked again");
    budget::set_limit(u64::MAX);
    what_the_system_does_not_give_is_refused_and_not_counted(first);

    let before = RUST_HEAP.bytes();
    let numbers = vec![1u8; 3 << 20];
    assert!(RUST_HEAP.bytes() >= before + (3 << 20));
    drop(numbers);
    assert!(RUST_HEAP.bytes() < before + (1 << 16));

    the_heap_that_is_reserved_is_counted_once_it_is_granted();
    holders_are_asked_in_order_for_what_is_missing();
    owners_add_up();
}

fn owners_add_up() {
    assert_eq!(ledger::verify_sum(), Ok(()));
    let mut owners = Vec::with_capacity(64);
    ledger::read_owners(&mut owners);
    let sum: u64 = owners.iter().map(|owner| owner.bytes).sum();
    assert_eq!(sum, ledger::counted_bytes());
}

fn what_the_system_does_not_give_is_refused_and_not_counted(owner: Owner) {
    let before = ledger::counted_bytes();
    // More than a process can address.
    assert!(Tensor::f_zeros([1 << 45], (Kind::Float, Device::Cpu)).is_err());
    let refusal = budget::take_refusal().unwrap();
    assert_eq!((refusal.by, refusal.owner), (RefusedBy::System, owner));
    assert!(Error::Refused(refusal).to_string().contains("the system gave no memory"));
    assert!(ledger::counted_bytes() < before + (1 << 16));
}

fn the_heap_that_is_reserved_is_counted_once_it_is_granted() {
    let owner = Owner::named("test/table");
    let (counted, heap) = (ledger::counted_bytes(), RUST_HEAP.bytes());
    let near = |bytes: u64, than: u64| assert!(bytes.abs_diff(than) < 16 << 10, "{bytes} {than}");
    let mut reservation = Reservation::of_heap(owner);
    budget::set_limit(counted + (6 << 20));
    reservation.try_set(4 << 20).unwrap();
    near(ledger::counted_bytes(), counted + (4 << 20));
    let refused = Reservation::declared(owner).try_set(4 << 20);
    assert!(matches!(refused, Err(Error::Refused(_))), "nobody else gets what was granted");
    assert!(budget::take_refusal().is_some_and(|refusal| refusal.by == RefusedBy::Limit));
    let table = vec![1u8; 4 << 20];
    reservation.set(4 << 20);
    near(ledger::counted_bytes(), counted + (4 << 20));
    near(RUST_HEAP.bytes(), heap);
    reservation.set_with_ahead(4 << 20, 1 << 20);
    near(ledger::counted_bytes(), counted + (5 << 20));
    owners_add_up();
    assert!(!reservation.set_if_room(8 << 20));
    assert_eq!((budget::take_refusal(), reservation.bytes()), (None, 5 << 20), "a cache goes without");
    budget::set_limit(u64::MAX);
    // A reservation that claims more of the heap than there is.
    reservation.set(1 << 40);
    let wrong = ledger::verify_sum().unwrap_err();
    assert_eq!(wrong.whole, "Rust's heap");
    drop((reservation, table));
    assert_eq!(owner.bytes(), 0);
    near(ledger::counted_bytes(), counted);
}

static ASKED: Mutex<Vec<(&str, u64)>> = Mutex::new(Vec::new());
static N_BEGUN_ANEW: AtomicU64 = AtomicU64::new(0);

struct Holder {
    name: &'static str,
    gives: u64,
}

impl Reclaimable for Holder {
    fn name(&self) -> &'static str {
        self.name
    }

    fn generation(&self) -> Generation {
        if self.name == "data" { Generation::Cold } else { Generation::Caches }
    }

    fn bytes(&self) -> u64 {
        assert!(self.name != "panics", "a holder panics on purpose");
        1
    }

    fn restore_nanos_per_byte(&self) -> f64 {
        self.name.len() as f64
    }

    fn last_used(&self) -> u64 {
        u64::MAX
    }

    fn give_back(&self, bytes: u64) -> u64 {
        ASKED.lock().unwrap().push((self.name, bytes));
        self.gives
    }

    fn begin_anew(&self) {
        N_BEGUN_ANEW.fetch_add(1, Relaxed);
    }
}

fn holders_are_asked_in_order_for_what_is_missing() {
    let holder = |name, gives| reclaimable::register(Arc::new(Holder { name, gives }));
    let all = [holder("dearest", 7), holder("data", 5), holder("cheap", 100)];
    let asked = || std::mem::take(&mut *ASKED.lock().unwrap());
    budget::collect(u64::MAX);
    asked();
    assert_eq!(CACHE.bytes(), 0, "freed blocks of tensors are collected");
    assert_eq!((budget::collect(1000), asked()), (107, vec![("cheap", 1000), ("dearest", 900)]));
    assert_eq!((budget::collect(0), asked()), (0, vec![]));
    assert_eq!((budget::collect(50), asked()), (100, vec![("cheap", 50)]), "until enough was given");

    drop(zeros(&[250_000]));
    let kept_bytes = CACHE.bytes();
    assert!(kept_bytes >= 1_000_000);
    assert_eq!((budget::collect(1), asked()), (kept_bytes, vec![]), "blocks come first and are given whole");

    // What the memory limit has no room for asks for data last.
    budget::set_limit(ledger::counted_bytes() + budget::COMMIT_ROOM_BYTES);
    assert!(Reservation::declared(Owner::named("test/first")).try_set(1 << 20).is_err());
    assert_eq!(
        asked().iter().map(|(name, _)| *name).take(3).collect::<Vec<_>>(),
        ["cheap", "dearest", "data"]
    );
    budget::set_limit(u64::MAX);
    assert!(budget::take_refusal().is_some());

    budget::begin_anew();
    assert_eq!(N_BEGUN_ANEW.load(Relaxed), 3);
    drop(all);
    asked();
    assert_eq!((budget::collect(u64::MAX), asked()), (0, vec![]), "those that left are not asked");
}
