//! The cost of one reading of the monitor: the median by criterion, and percentiles over 100,000 readings.
//!
//! A pause comes before each reading, because the monitor pauses too and finds cold caches. The percentiles are of
//! wall-clock time: on a machine whose cores are all busy they show the scheduler's delays.
#![allow(missing_docs, reason = "criterion's macros write undocumented functions")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use memsys::ledger::Owner;
use memsys::ledger::reservation::Reservation;
use memsys::limit::MemoryLimit;
use memsys::system::MemoryOptimizationSystem;
use memsys::system::snapshot::Snapshot;

/// A few more owners than a run has.
const OWNERS: [&str; 24] = [
    "bench/0", "bench/1", "bench/2", "bench/3", "bench/4", "bench/5", "bench/6", "bench/7", "bench/8",
    "bench/9", "bench/10", "bench/11", "bench/12", "bench/13", "bench/14", "bench/15", "bench/16",
    "bench/17", "bench/18", "bench/19", "bench/20", "bench/21", "bench/22", "bench/23",
];
const N_READINGS: usize = 100_000;
const PAUSE: Duration = Duration::from_micros(50);

fn reading(criterion: &mut Criterion) {
    let held = OWNERS.map(|path| {
        let mut reservation = Reservation::declared(Owner::named(path));
        reservation.set(1 << 20);
        reservation
    });
    let builder = MemoryOptimizationSystem::builder().limit(MemoryLimit::Percent(60.0));
    // The bench takes the turns, and the monitor's thread sleeps.
    let system = match builder.interval(Duration::from_secs(1 << 20)).on_alert(|_| ()).start() {
        Ok(system) => system,
        Err(failure) => panic!("{failure}"),
    };
    let mut snapshot = Snapshot::default();
    criterion.bench_function("monitor/reading", |bencher| {
        bencher.iter(|| black_box(system.read_into(&mut snapshot)));
    });
    criterion.bench_function("monitor/turn", |bencher| bencher.iter(|| system.turn("bench")));
    let mut nanos: Vec<u128> = (0..N_READINGS)
        .map(|_| {
            std::thread::sleep(PAUSE);
            let began = Instant::now();
            system.turn("bench");
            began.elapsed().as_nanos()
        })
        .collect();
    nanos.sort_unstable();
    let micros_at = |permille: usize| nanos[N_READINGS * permille / 1000] as f64 / 1e3;
    let worst = nanos[N_READINGS - 1] as f64 / 1e3;
    eprintln!(
        "monitor/turn over {N_READINGS} readings: median {:.1} µs, p99 {:.1} µs, p99.9 {:.1} µs, worst {worst:.1} µs",
        micros_at(500),
        micros_at(990),
        micros_at(999)
    );
    drop(held);
}

criterion_group!(benches, reading);
criterion_main!(benches);
