//! Alerts: callbacks that run when the process reaches a [level](crate::system::level), on a thread where they can do no
//! harm.
//!
//! Callbacks run one after another on a separate thread, which a bounded queue feeds. A callback that panics is caught
//! and counted. A callback that blocks delays only later callbacks; alerts that find the queue full are dropped and
//! counted. This module does not decide when to alert.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::limit::Readable;
use crate::system::level::Level;
use crate::system::snapshot::Snapshot;

/// Number of alerts that can wait for callbacks.
const QUEUE_LENGTH: usize = 16;
/// How long a drop waits for callbacks that are still running.
const PATIENCE: Duration = Duration::from_millis(100);

/// The process has reached a level.
#[derive(Debug, Clone, PartialEq)]
pub struct Alert {
    /// The level that was reached.
    pub level: Level,
    /// The reading that reached it.
    pub snapshot: Snapshot,
}

impl fmt::Display for Alert {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { level, snapshot } = self;
        let (held, limit) = (Readable(snapshot.held_bytes()), Readable(snapshot.limit_bytes));
        let percent = 100.0 * snapshot.held_fraction();
        write!(formatter, "memory {level}: {held} are held, {percent:.0} % of the memory limit of {limit}")?;
        if let Some(largest) = snapshot.owners.iter().max_by_key(|owner| owner.bytes) {
            write!(formatter, "; the largest owner is {} with {}", largest.path, Readable(largest.bytes))?;
        }
        Ok(())
    }
}

/// A callback that runs once for each alert.
pub type OnAlert = dyn Fn(&Alert) + Send;

/// What happened to the alerts so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AlertCounts {
    /// Alerts that were queued for the callbacks.
    pub n_queued: u64,
    /// Alerts for which every callback has run.
    pub n_told: u64,
    /// Alerts that were dropped because the queue was full.
    pub n_dropped: u64,
    /// Panics of callbacks.
    pub n_panics: u64,
}

#[derive(Debug, Default)]
struct Counters {
    n_queued: AtomicU64,
    n_told: AtomicU64,
    n_dropped: AtomicU64,
    n_panics: AtomicU64,
}

/// The thread that runs the callbacks.
#[derive(Debug)]
pub(crate) struct Callbacks {
    /// `None` once the drop has begun.
    queue: Option<SyncSender<Alert>>,
    /// Disconnects when the thread ends; nothing is ever sent.
    end: Mutex<Receiver<()>>,
    counters: Arc<Counters>,
}

impl Callbacks {
    pub(crate) fn start(callbacks: Vec<Box<OnAlert>>) -> Result<Self> {
        let (sender, queue) = sync_channel::<Alert>(QUEUE_LENGTH);
        let (running, end) = channel();
        let counters = Arc::new(Counters::default());
        let thread_counters = Arc::clone(&counters);
        let run = move || {
            let _stack = crate::os::count_stack();
            let _running = running;
            for alert in queue {
                for callback in &callbacks {
                    if catch_unwind(AssertUnwindSafe(|| callback(&alert))).is_err() {
                        thread_counters.n_panics.fetch_add(1, Relaxed);
                    }
                }
                thread_counters.n_told.fetch_add(1, Relaxed);
            }
        };
        std::thread::Builder::new()
            .name("memory-alerts".into())
            .spawn(run)
            .map_err(|source| Error::Thread { what: "memory alerts", source })?;
        Ok(Self { queue: Some(sender), end: Mutex::new(end), counters })
    }

    pub(crate) fn tell(&self, alert: Alert) {
        let Some(queue) = &self.queue else { return };
        match queue.try_send(alert) {
            Ok(()) => self.counters.n_queued.fetch_add(1, Relaxed),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.counters.n_dropped.fetch_add(1, Relaxed)
            }
        };
    }

    pub(crate) fn counts(&self) -> AlertCounts {
        AlertCounts {
            n_queued: self.counters.n_queued.load(Relaxed),
            n_told: self.counters.n_told.load(Relaxed),
            n_dropped: self.counters.n_dropped.load(Relaxed),
            n_panics: self.counters.n_panics.load(Relaxed),
        }
    }
}

impl Drop for Callbacks {
    /// Waits briefly for the queued alerts. A callback that blocks longer keeps its thread, which nobody joins.
    fn drop(&mut self) {
        self.queue = None;
        let end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        // Both outcomes are fine: the thread has ended, or it still runs and is left alone.
        let _ = end.recv_timeout(PATIENCE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::level::Level::Warning;

    fn alert(at_millis: u64) -> Alert {
        Alert { level: Warning, snapshot: Snapshot { at_millis, ..Snapshot::default() } }
    }

    #[test]
    fn a_callback_that_panics_is_counted_and_later_ones_are_told() {
        let (sender, told) = channel();
        let panics: Box<OnAlert> =
            Box::new(|alert| assert!(alert.snapshot.at_millis != 1, "a callback panics on purpose"));
        let sends: Box<OnAlert> = Box::new(move |alert| sender.send(alert.snapshot.at_millis).unwrap());
        let callbacks = Callbacks::start(vec![panics, sends]).unwrap();
        callbacks.tell(alert(1));
        callbacks.tell(alert(2));
        assert_eq!([told.recv().unwrap(), told.recv().unwrap()], [1, 2]);
        assert_eq!((callbacks.counts().n_panics, callbacks.counts().n_dropped), (1, 0));
    }

    #[test]
    fn a_callback_that_blocks_holds_up_neither_the_run_nor_its_end() {
        let (began, has_begun) = channel();
        let (release, released) = channel::<()>();
        let blocks: Box<OnAlert> = Box::new(move |_| {
            began.send(()).unwrap();
            let _ = released.recv();
        });
        let callbacks = Callbacks::start(vec![blocks]).unwrap();
        callbacks.tell(alert(0));
        has_begun.recv().unwrap();
        for index in 0..QUEUE_LENGTH as u64 + 3 {
            callbacks.tell(alert(index));
        }
        let counts = callbacks.counts();
        assert_eq!((counts.n_queued, counts.n_told, counts.n_dropped), (1 + QUEUE_LENGTH as u64, 0, 3));
        drop(callbacks);
        assert!(release.send(()).is_ok(), "the callback still blocks");
    }

    #[test]
    fn queued_alerts_are_told_before_the_end() {
        let (sender, told) = channel();
        let callbacks =
            Callbacks::start(vec![Box::new(move |alert| sender.send(alert.snapshot.at_millis).unwrap())])
                .unwrap();
        callbacks.tell(alert(7));
        drop(callbacks);
        assert_eq!(told.recv().unwrap(), 7);
    }

    #[test]
    fn an_alert_names_the_largest_owner() {
        let mut alert = alert(0);
        alert.snapshot.limit_bytes = 2 << 30;
        alert.snapshot.resident_bytes = 1600 << 20;
        let owner =
            |path, bytes| crate::ledger::OwnerBytes { path, bytes, tensor_bytes: 0, peak_bytes: bytes };
        alert.snapshot.owners = vec![owner("a", 1 << 20), owner("b", 900 << 20)];
        assert_eq!(
            alert.to_string(),
            "memory warning: 1.56 GiB are held, 78 % of the memory limit of 2.00 GiB; the largest owner is b with 900.0 MiB"
        );
    }
}
