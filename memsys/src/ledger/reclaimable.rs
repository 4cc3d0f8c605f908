//! What can be asked to give bytes back: one trait for caches and for large holders of data, and the list of all of them.
//!
//! As in a garbage collector, an older generation takes longer to collect. The budget asks the youngest generation first
//! when a request does not fit, and the memory system's [collector](crate::system::collector) asks when the memory limit
//! is near. Within a generation, what costs least to restore comes first, and costs less the longer it was not used.
//!
//! A holder is asked for as long as its [`Registration`] lives. One that panics is not asked again: see
//! [`panicked`].

use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How soon a holder is asked, and how much a collection covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Generation {
    /// 0: what a step leaves behind, such as the blocks of freed tensors.
    Step,
    /// 1: caches, such as decompressed chunks, kept embeddings and the caches of devices.
    Caches,
    /// 2: data that can be held in fewer bytes, such as the cold part of a replay, and the free pages of the heap.
    Cold,
}

impl fmt::Display for Generation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "generation {}", *self as u8)
    }
}

/// A holder of bytes that it can give back at a price.
///
/// It is asked on whatever thread needs memory, possibly while that thread holds locks: it must only try its own locks, and
/// must not allocate a tensor. What it cannot do at once it may note, and do later at a safe point of its own.
pub trait Reclaimable: Send + Sync {
    /// The holder's name in logs.
    fn name(&self) -> &'static str;

    /// The generation that the holder is collected with.
    fn generation(&self) -> Generation;

    /// Counted bytes of the process that the holder could give back. A holder of 0 bytes is not asked.
    fn bytes(&self) -> u64;

    /// What it takes to have a byte that was given back again, in nanoseconds.
    fn restore_nanos_per_byte(&self) -> f64;

    /// The value of [`n_collections`] when the holder was last used. One that does not know says the latest.
    fn last_used(&self) -> u64 {
        n_collections()
    }

    /// Gives up to `bytes` back and returns how many it gave before it returned; 0 if it gives them later.
    fn give_back(&self, bytes: u64) -> u64;

    /// Forgets what the work so far has taught, such as a peak that the holder sizes itself by.
    fn begin_anew(&self) {}
}

#[derive(Clone)]
struct Registered {
    number: u64,
    name: &'static str,
    generation: Generation,
    restore_nanos_per_byte: f64,
    holder: Arc<dyn Reclaimable>,
}

impl Registered {
    /// What it costs to restore a byte, the less the more collections ago the holder was last used.
    fn price(&self) -> f64 {
        let last_used = self.guarded(|holder| holder.last_used()).unwrap_or(u64::MAX);
        self.restore_nanos_per_byte / (1 + n_collections().saturating_sub(last_used)) as f64
    }

    fn bytes(&self) -> u64 {
        self.guarded(|holder| holder.bytes()).unwrap_or(0)
    }

    fn give_back(&self, bytes: u64) -> u64 {
        self.guarded(|holder| if holder.bytes() == 0 { 0 } else { holder.give_back(bytes) }).unwrap_or(0)
    }

    /// Asks the holder something. Where it panics, the panic's hook tells of it, and the holder is not asked again. A
    /// request for bytes may come from within libtorch, through which no panic may unwind.
    fn guarded<T>(&self, question: impl FnOnce(&dyn Reclaimable) -> T) -> Option<T> {
        let answer = catch_unwind(AssertUnwindSafe(|| question(&*self.holder))).ok();
        if answer.is_none() && remove(self.number).is_some() {
            PANICKED.lock().unwrap_or_else(PoisonError::into_inner).push(self.name);
        }
        answer
    }
}

static HOLDERS: Mutex<Vec<Registered>> = Mutex::new(Vec::new());
static N_REGISTERED: AtomicU64 = AtomicU64::new(0);
static N_COLLECTIONS: AtomicU64 = AtomicU64::new(0);
static PANICKED: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());

thread_local! {
    static COLLECTING: Cell<bool> = const { Cell::new(false) };
}

/// Keeps a holder among those that are asked, until it is dropped.
#[derive(Debug)]
#[must_use = "the holder is asked for as long as this lives"]
pub struct Registration {
    number: u64,
}

impl Registration {
    /// Leaves the holder among those that are asked for as long as the process lives.
    pub fn for_good(self) {
        std::mem::forget(self);
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        drop(remove(self.number));
    }
}

/// Adds a holder to those that are asked.
pub fn register(holder: Arc<dyn Reclaimable>) -> Registration {
    let number = N_REGISTERED.fetch_add(1, Relaxed);
    let registered = Registered {
        number,
        name: holder.name(),
        generation: holder.generation(),
        restore_nanos_per_byte: holder.restore_nanos_per_byte(),
        holder,
    };
    holders().push(registered);
    Registration { number }
}

/// Takes a holder out of the list, whose lock is free again when the holder is dropped.
fn remove(number: u64) -> Option<Registered> {
    let mut list = holders();
    let at = list.iter().position(|registered| registered.number == number)?;
    Some(list.remove(at))
}

/// Number of collections so far.
#[must_use]
pub fn n_collections() -> u64 {
    N_COLLECTIONS.load(Relaxed)
}

/// The names of the holders that panicked when they were asked. They are not asked again.
#[must_use]
pub fn panicked() -> Vec<&'static str> {
    PANICKED.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Bytes that the holders of the generations `from` to `to` could give back now.
#[must_use]
pub fn reclaimable_bytes(from: Generation, to: Generation) -> u64 {
    in_order(from, to).iter().map(Registered::bytes).sum()
}

/// Gives back up to `bytes` from the generations `from` to `to`, and returns how many bytes were given. Each holder is
/// asked for what is still missing, the youngest generation first.
///
/// A collection that runs within another one on the same thread gives nothing.
pub fn collect(from: Generation, to: Generation, bytes: u64) -> u64 {
    if COLLECTING.replace(true) {
        return 0;
    }
    N_COLLECTIONS.fetch_add(1, Relaxed);
    let mut given = 0u64;
    for holder in in_order(from, to) {
        if given >= bytes {
            break;
        }
        given = given.saturating_add(holder.give_back(bytes - given));
    }
    COLLECTING.set(false);
    given
}

/// Tells every holder to forget what the work so far has taught.
pub(crate) fn begin_anew() {
    for holder in in_order(Generation::Step, Generation::Cold) {
        holder.guarded(|holder| holder.begin_anew());
    }
}

/// The holders of some generations in the order in which they are asked. No lock is held while they are.
fn in_order(from: Generation, to: Generation) -> Vec<Registered> {
    let mut list: Vec<_> = holders().clone();
    list.retain(|registered| (from..=to).contains(&registered.generation));
    let mut priced: Vec<_> = list.into_iter().map(|registered| (registered.price(), registered)).collect();
    // Equal ones stay in the order in which they were registered.
    priced.sort_by(|(a, one), (b, other)| one.generation.cmp(&other.generation).then(a.total_cmp(b)));
    priced.into_iter().map(|(_, registered)| registered).collect()
}

fn holders() -> MutexGuard<'static, Vec<Registered>> {
    HOLDERS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Holders are those of the process: tests that have cold ones take turns.
    pub(crate) fn turn() -> MutexGuard<'static, ()> {
        static TURN: Mutex<()> = Mutex::new(());
        TURN.lock().unwrap_or_else(PoisonError::into_inner)
    }

    struct Holder {
        name: &'static str,
        nanos: f64,
        last_used: u64,
        bytes: AtomicU64,
    }

    static GIVEN: Mutex<Vec<&str>> = Mutex::new(Vec::new());

    impl Reclaimable for Holder {
        fn name(&self) -> &'static str {
            self.name
        }

        fn generation(&self) -> Generation {
            Generation::Cold
        }

        fn bytes(&self) -> u64 {
            assert!(self.name != "panics", "a holder panics on purpose");
            self.bytes.load(Relaxed)
        }

        fn restore_nanos_per_byte(&self) -> f64 {
            self.nanos
        }

        fn last_used(&self) -> u64 {
            self.last_used
        }

        fn give_back(&self, bytes: u64) -> u64 {
            GIVEN.lock().unwrap().push(self.name);
            let given = bytes.min(self.bytes());
            self.bytes.fetch_sub(given, Relaxed);
            given
        }
    }

    #[test]
    fn what_costs_least_to_restore_gives_first_and_what_was_long_unused_costs_less() {
        let _turn = turn();
        let now = n_collections() + 1000;
        let holder = |name, nanos, last_used, bytes| {
            register(Arc::new(Holder { name, nanos, last_used, bytes: AtomicU64::new(bytes) }))
        };
        let cold = |bytes| {
            let given = collect(Generation::Cold, Generation::Cold, bytes);
            (given, std::mem::take(&mut *GIVEN.lock().unwrap()))
        };
        let dear = holder("dear", 100.0, now, 50);
        let _cheap = holder("cheap", 1.0, now, 50);
        let _panics = holder("panics", 0.0, now, 50);
        assert_eq!(reclaimable_bytes(Generation::Cold, Generation::Cold), 100);
        assert_eq!(panicked(), ["panics"]);
        assert_eq!(cold(30), (30, vec!["cheap"]));
        // The 1,000 collections since its last use make it 100 / 1,001 nanoseconds.
        let unused = holder("unused", 100.0, 0, 50);
        (0..1000).for_each(|_| drop(cold(0)));
        assert_eq!(cold(80), (80, vec!["unused", "cheap", "dear"]));
        drop((dear, unused));
        assert_eq!(cold(1000), (0, vec![]), "one without bytes is not asked, and one that left neither");
        assert_eq!(panicked(), ["panics"], "it was told once");
    }

    #[test]
    fn generations_are_numbered_from_the_youngest() {
        assert_eq!(Generation::Step.to_string(), "generation 0");
        assert_eq!(Generation::Cold.to_string(), "generation 2");
    }
}
