//! Tests of the memory system. Readings are made up, because the memory limit would hold for the whole test process.

use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::channel;

use super::*;
use crate::ledger::reclaimable::Reclaimable;

const MIB: u64 = 1 << 20;
const NEVER: Duration = Duration::from_secs(1 << 20);

fn reading(at_millis: u64, held_bytes: u64, n_denied: u64) -> Snapshot {
    Snapshot {
        at_millis,
        limit_bytes: 1000 * MIB,
        resident_bytes: held_bytes,
        counted_bytes: held_bytes,
        n_denied,
        ..Snapshot::default()
    }
}

impl Shared {
    /// Assesses a made-up reading as if the probe had read it.
    fn feed(&self, mut snapshot: Snapshot) -> Vec<Directive> {
        let mut directives = Vec::new();
        self.assess(&mut snapshot, &mut directives);
        directives
    }
}

/// A holder that gives a quarter of what it is asked for, until it holds nothing.
struct Toy {
    bytes: AtomicU64,
}

impl Reclaimable for Toy {
    fn name(&self) -> &'static str {
        "toy"
    }

    fn generation(&self) -> Generation {
        Generation::Cold
    }

    fn bytes(&self) -> u64 {
        self.bytes.load(SeqCst)
    }

    fn restore_nanos_per_byte(&self) -> f64 {
        1.0
    }

    fn give_back(&self, bytes: u64) -> u64 {
        let given = (bytes / 4).min(self.bytes());
        self.bytes.fetch_sub(given, SeqCst);
        given
    }
}

/// A memory system whose monitor has taken its first turn and takes no other.
fn quiet(builder: Builder) -> MemoryOptimizationSystem {
    let system = builder.interval(NEVER).watch_only().start().unwrap();
    while system.health().monitor.n_turns == 0 {
        std::thread::yield_now();
    }
    system
}

#[test]
fn alerts_come_once_per_crossing_and_not_once_per_reading() {
    let (sender, told) = channel();
    let system = quiet(MemoryOptimizationSystem::builder().on_alert(move |alert| {
        sender.send((alert.snapshot.at_millis, alert.level)).unwrap();
    }));
    for index in 0..100 {
        system.shared.feed(reading(index * 5000, if index < 50 { 800 * MIB } else { 950 * MIB }, 0));
    }
    assert_eq!(system.level(), Level::Critical);
    assert_eq!(system.health().alerts.n_queued, 2);
    drop(system);
    assert_eq!(told.iter().collect::<Vec<_>>(), [(0, Level::Warning), (250_000, Level::Critical)]);
}

#[test]
fn holders_give_until_the_request_is_met() {
    let _turn = reclaimable::tests::turn();
    let toys = [300 * MIB, 100 * MIB].map(|bytes| Arc::new(Toy { bytes: AtomicU64::new(bytes) }));
    let _registered = toys.each_ref().map(|toy| reclaimable::register(toy.clone()));
    let system = quiet(MemoryOptimizationSystem::builder());
    let directives = system.shared.feed(reading(0, 950 * MIB, 0));
    let shrink = directives.iter().find(|directive| matches!(directive, Directive::Shrink { .. })).unwrap();
    assert!(matches!(shrink, Directive::Shrink { bytes, .. } if *bytes == 200 * MIB), "{shrink}");
    assert_eq!(system.shared.carry_out(shrink).unwrap(), Some(50 * MIB + 150 * MIB / 4));
    assert_eq!(toys.map(|toy| toy.bytes()), [250 * MIB, 100 * MIB - 150 * MIB / 4]);
}

#[test]
fn refusals_that_the_learner_has_not_answered_reach_it_as_requests() {
    let system = quiet(MemoryOptimizationSystem::builder());
    let advice = system.step_advice();
    advice.set_can_use_fewer_bytes(true);
    // More than the other tests of this process are refused.
    let first = 1 << 40;
    system.shared.feed(reading(0, 500 * MIB, first));
    for (n_denied, n_answered, is_asked) in [(0, 0, false), (5, 0, true), (6, 1, false), (7, 0, true)] {
        advice.count_answered(n_answered);
        for directive in system.shared.feed(reading(n_denied * 5000, 500 * MIB, first + n_denied)) {
            system.shared.carry_out(&directive).unwrap();
        }
        assert_eq!(advice.take_request(), is_asked, "{n_denied} refused");
    }
}

#[test]
fn a_reading_has_owners_devices_and_its_event() {
    let toy = DeviceBytes { name: "toy:0", allocated_bytes: 1, reserved_bytes: 2, limit_bytes: 3 };
    let system = quiet(MemoryOptimizationSystem::builder().device(move || toy));
    let mut held =
        crate::ledger::reservation::Reservation::declared(crate::ledger::Owner::named("test/system"));
    held.set(3 * MIB);
    system.turn("a test");
    let latest = system.latest();
    assert_eq!(latest.event, Some("a test"));
    assert_eq!(latest.devices, [toy]);
    assert!(latest.owners.iter().any(|owner| owner.path == "test/system" && owner.bytes == 3 * MIB));
    assert!(latest.peak_loaded_bytes >= latest.loaded_bytes());
    assert!(system.snapshot().unwrap().peak_loaded_bytes >= latest.peak_loaded_bytes);
    assert!(system.top_owners(1).len() == 1);
    let health = system.health();
    assert!(health.is_running && health.n_failed_readings == 0 && health.monitor.n_panics == 0, "{health:?}");
}

#[test]
fn a_system_that_only_watches_notes_what_it_would_do() {
    let system = quiet(MemoryOptimizationSystem::builder().thresholds(Thresholds {
        pressure_percent: -1.0,
        residual_floor_bytes: 0,
        residual_fraction: 0.0,
        trim_gain_bytes: 0,
        ..Thresholds::default()
    }));
    system.turn("a test");
    assert!(system.directives().iter().all(|record| record.given_bytes.is_none()));
    assert!(!system.directives().is_empty());
}

#[test]
fn a_panic_in_a_turn_is_kept_and_takes_nothing_down() {
    let (sender, turns) = channel();
    let device = move || {
        sender.send(()).unwrap();
        panic!("a device panics on purpose")
    };
    let builder = MemoryOptimizationSystem::builder().interval(NEVER).watch_only();
    let system = builder.device(device).start().unwrap();
    turns.recv().unwrap();
    system.notify("again");
    turns.recv().unwrap();
    let health = system.health();
    assert!(health.is_running, "{health:?}");
    assert!(health.monitor.n_panics >= 1 && health.monitor.last_panic.unwrap().contains("on purpose"));
}
