//! Eight threads hold, grow and give back bytes at random under one memory limit, and caches come and go that are asked for
//! theirs: `race_ledger SECONDS`. `race.sh` builds it with ThreadSanitizer. Counted bytes never pass the limit.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use memsys::ledger::reclaimable::{self, Generation, Reclaimable};
use memsys::ledger::reservation::Reservation;
use memsys::ledger::{self, Owner, budget};
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

const N_THREADS: u64 = 8;
const LIMIT_BYTES: u64 = 64 << 20;
/// On average the threads want twice the limit.
const MOST_BYTES: u64 = LIMIT_BYTES / 2;

/// A cache of nothing but its reservation.
struct Cache(Mutex<Reservation>);

impl Reclaimable for Cache {
    fn name(&self) -> &'static str {
        "cache"
    }

    fn generation(&self) -> Generation {
        Generation::Caches
    }

    fn bytes(&self) -> u64 {
        self.0.try_lock().map_or(0, |held| held.bytes())
    }

    fn restore_nanos_per_byte(&self) -> f64 {
        1.0
    }

    fn give_back(&self, bytes: u64) -> u64 {
        let Ok(mut held) = self.0.try_lock() else { return 0 };
        let given = held.bytes().min(bytes);
        let left = held.bytes() - given;
        held.set(left);
        given
    }
}

/// Requests that were granted, and that were refused.
fn ask(seed: u64, stop: &AtomicBool) -> (u64, u64) {
    let owner = Owner::named("race");
    let _owner = owner.enter();
    let mut rng = Pcg64Mcg::seed_from_u64(seed);
    let (mut n_granted, mut n_refused) = (0, 0);
    let mut held = [Reservation::declared(owner), Reservation::of_heap(owner)];
    while !stop.load(Ordering::Relaxed) {
        let cache = Arc::new(Cache(Mutex::new(Reservation::declared(owner))));
        let _registration = reclaimable::register(cache.clone());
        for _ in 0..rng.random_range(1..64) {
            let bytes = rng.random_range(0..MOST_BYTES / 2);
            if rng.random_range(0..8) == 0 {
                if let Ok(mut kept) = cache.0.try_lock() {
                    let _is_kept = kept.set_if_room(bytes);
                }
                continue;
            }
            let reservation = &mut held[rng.random_range(0..2)];
            let before = reservation.bytes();
            if reservation.try_set(bytes).is_ok() {
                n_granted += 1;
                assert_eq!(reservation.bytes(), bytes);
            } else {
                n_refused += 1;
                assert_eq!(reservation.bytes(), before, "what is refused stays as it was");
                let refusal = budget::take_refusal().expect("the refusal is this thread's");
                assert_eq!(refusal.wanted_bytes, bytes - before);
                reservation.set(0);
            }
            assert!(budget::take_refusal().is_none());
        }
    }
    (n_granted, n_refused)
}

fn main() {
    let seconds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(60);
    budget::set_limit(LIMIT_BYTES);
    let (stop, most_bytes) = (AtomicBool::new(false), AtomicU64::new(0));
    let (n_granted, n_refused) = std::thread::scope(|scope| {
        let (stop, most_bytes) = (&stop, &most_bytes);
        let asking: Vec<_> = (0..N_THREADS).map(|seed| scope.spawn(move || ask(seed, stop))).collect();
        let watching = scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                most_bytes.fetch_max(ledger::counted_bytes(), Ordering::Relaxed);
                std::thread::yield_now();
            }
        });
        let end = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < end {
            std::thread::sleep(Duration::from_millis(50));
        }
        stop.store(true, Ordering::Relaxed);
        // The sanitizer sees a thread that is joined, but not the end of a scope inside the standard library.
        watching.join().expect("the watching thread does not panic");
        asking.into_iter().map(|thread| thread.join().expect("no thread panics")).fold(
            (0, 0),
            |(granted, refused), (more_granted, more_refused)| (granted + more_granted, refused + more_refused),
        )
    });
    // The peak is taken at each grant, so no moment between two readings is missed.
    let most_bytes = most_bytes.load(Ordering::Relaxed).max(ledger::peak_counted_bytes());
    assert!(most_bytes <= LIMIT_BYTES, "{most_bytes} counted bytes of {LIMIT_BYTES}");
    assert_eq!(budget::n_denied(), n_refused);
    assert!(n_granted > 0 && n_refused > 0, "{n_granted} {n_refused}");
    assert_eq!((ledger::counted_bytes(), ledger::verify_sum()), (0, Ok(())));
    println!("{n_granted} requests granted, {n_refused} refused, at most {most_bytes} bytes of {LIMIT_BYTES}");
}
