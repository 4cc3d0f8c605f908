//! The monitor: a thread that calls a function every few seconds, and at once when it is notified of an event.
//!
//! A call is a *turn*; the monitor does not know what a turn does. A panic in a turn is counted and does not end the
//! thread. A drop ends the thread at once, however much of the interval is left.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// Number of events that can wait. The next turn answers all of them, so those beyond may be dropped.
const QUEUE_LENGTH: usize = 16;
/// The shortest time between two turns that events ask for.
const SPACING: Duration = Duration::from_millis(100);
/// How long a drop waits for a turn that still runs.
const PATIENCE: Duration = Duration::from_millis(500);

/// Counts of the monitor's turns and panics.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MonitorHealth {
    /// Turns so far, including those that panicked.
    pub n_turns: u64,
    /// Turns that panicked.
    pub n_panics: u64,
    /// The message of the latest panic.
    pub last_panic: Option<String>,
}

/// A running monitor, which ends when it is dropped.
#[derive(Debug)]
pub struct Monitor {
    /// `None` once the drop has begun.
    events: Option<SyncSender<&'static str>>,
    /// Disconnects when the thread ends; nothing is ever sent.
    end: Mutex<Receiver<()>>,
    thread: JoinHandle<()>,
    health: Arc<Mutex<MonitorHealth>>,
}

impl Monitor {
    /// Starts a thread that takes a turn now and every `interval` from then on. `turn` receives the event that asked for
    /// it, or `None` if the interval has passed.
    ///
    /// # Errors
    /// [`Error::Thread`] if the operating system does not start a thread.
    pub fn start(
        interval: Duration,
        mut turn: impl FnMut(Option<&'static str>) + Send + 'static,
    ) -> Result<Self> {
        let (events, queue) = sync_channel(QUEUE_LENGTH);
        let (running, end) = channel();
        let health = Arc::new(Mutex::new(MonitorHealth::default()));
        let thread_health = Arc::clone(&health);
        let run = move || {
            let _stack = crate::os::count_stack();
            let mut event = None;
            loop {
                let began = Instant::now();
                let outcome = catch_unwind(AssertUnwindSafe(|| turn(event)));
                note(&mut lock(&thread_health), outcome);
                event = match next_event(&queue, began, interval) {
                    Ok(event) => event,
                    Err(Ended) => break,
                };
            }
            // In this order, what the turn holds is free by the time the drop sees the end.
            drop(turn);
            drop(running);
        };
        let thread = std::thread::Builder::new()
            .name("memory-monitor".into())
            .spawn(run)
            .map_err(|source| Error::Thread { what: "memory monitor", source })?;
        Ok(Self { events: Some(events), end: Mutex::new(end), thread, health })
    }

    /// Asks for a turn now and does not wait for it. Events that come faster than turns share one.
    pub fn notify(&self, event: &'static str) {
        if let Some(events) = &self.events {
            // If the queue is full, the turn that answers it answers this event too.
            let _ = events.try_send(event);
        }
    }

    /// Whether the monitor's thread is alive.
    #[must_use]
    pub fn is_running(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Counts of turns and panics so far.
    #[must_use]
    pub fn health(&self) -> MonitorHealth {
        lock(&self.health).clone()
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.events = None;
        let end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        // Both outcomes are fine: the thread has ended, or it is in a turn that does not end and is left alone.
        let _ = end.recv_timeout(PATIENCE);
    }
}

struct Ended;

/// Waits for the next turn. Returns the event that asks for it, or `None` once `interval` has passed since `began`.
fn next_event(
    queue: &Receiver<&'static str>,
    began: Instant,
    interval: Duration,
) -> std::result::Result<Option<&'static str>, Ended> {
    let mut event = None;
    loop {
        let wait = if event.is_some() { interval.min(SPACING) } else { interval };
        let left = wait.saturating_sub(began.elapsed());
        match queue.recv_timeout(left) {
            Ok(next) => event = event.or(Some(next)),
            Err(RecvTimeoutError::Timeout) => return Ok(event),
            Err(RecvTimeoutError::Disconnected) => return Err(Ended),
        }
    }
}

fn note(health: &mut MonitorHealth, outcome: std::thread::Result<()>) {
    health.n_turns += 1;
    if let Err(panic) = outcome {
        health.n_panics += 1;
        health.last_panic = Some(text_of(panic.as_ref()));
    }
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a message")
        .into()
}

fn lock(health: &Mutex<MonitorHealth>) -> MutexGuard<'_, MonitorHealth> {
    health.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: Duration = Duration::from_secs(1 << 20);

    #[test]
    fn the_first_turn_is_the_clocks_and_events_ask_for_more() {
        let (sender, turns) = channel();
        let monitor = Monitor::start(NEVER, move |event| sender.send(event).unwrap()).unwrap();
        assert_eq!(turns.recv().unwrap(), None);
        monitor.notify("refusal");
        assert_eq!(turns.recv().unwrap(), Some("refusal"));
    }

    #[test]
    fn a_panic_is_kept_and_the_next_turn_is_taken() {
        let (sender, turns) = channel();
        let turn = move |event: Option<&'static str>| {
            sender.send(event).unwrap();
            assert!(event != Some("panic"), "a turn panics on purpose");
        };
        let monitor = Monitor::start(NEVER, turn).unwrap();
        assert_eq!(turns.recv().unwrap(), None);
        monitor.notify("panic");
        assert_eq!(turns.recv().unwrap(), Some("panic"));
        monitor.notify("after");
        assert_eq!(turns.recv().unwrap(), Some("after"));
        let health = monitor.health();
        assert_eq!(health.n_panics, 1, "{health:?}");
        assert!(health.last_panic.unwrap().contains("on purpose"));
        assert!(monitor.is_running());
    }

    #[test]
    fn a_drop_ends_the_thread_whatever_is_left_of_the_interval() {
        let (sender, turns) = channel();
        let monitor = Monitor::start(NEVER, move |event| sender.send(event).unwrap()).unwrap();
        assert_eq!(turns.recv().unwrap(), None);
        drop(monitor);
        // The turn's own sender is gone, and with it the thread that held it.
        assert!(turns.recv().is_err());
    }

    #[test]
    fn a_turn_that_does_not_end_is_left_behind() {
        let (began, has_begun) = channel();
        let (release, released) = channel::<()>();
        let turn = move |_| {
            began.send(()).unwrap();
            let _ = released.recv();
        };
        let monitor = Monitor::start(NEVER, turn).unwrap();
        has_begun.recv().unwrap();
        drop(monitor);
        assert!(release.send(()).is_ok(), "the turn is still under way");
    }
}
