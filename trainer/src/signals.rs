//! Interprets signals: save and stop, or end at once.
//!
//! One request to stop often arrives as several signals: SLURM signals every process of a step, torchrun passes signals
//! on, a terminal sends SIGINT to every foreground process, and the kernel sends SIGXCPU every second once a limit of
//! processor time is passed. So any number of SIGTERM, SIGUSR1, SIGXCPU and SIGHUP is one request. Only a second Ctrl-C, more than [`INSIST_AFTER`] after the first, ends the program at once.
//!
//! ```text
//! signal, time ──> decide (pure) ──> Request ──> what the command does about it
//! ```
//!
//! SIGXFSZ asks for nothing: it is caught so that the write which passed a limit of file sizes fails with an error, which
//! names the file. A child program starts with the default handlers: `exec` resets every caught signal, and this module
//! neither ignores nor blocks any.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGXCPU, SIGXFSZ};
use signal_hook::iterator::Signals;

/// A second SIGINT later than this is intended. An earlier one may be a copy of the first.
const INSIST_AFTER: Duration = Duration::from_secs(1);

/// What a signal asks the program to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// Save and stop.
    Stop,
    /// Save and stop, which an earlier signal already requested.
    StopAgain,
    /// End now, without saving.
    EndAtOnce,
}

/// The requests so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Past {
    is_stopping: bool,
    first_interrupt: Option<Duration>,
}

/// The request of a signal at this time, and the history including it. All times share an arbitrary origin.
fn decide(past: Past, signal: i32, at: Duration) -> (Past, Request) {
    let is_interrupt = signal == SIGINT;
    let is_meant = past.first_interrupt.is_some_and(|first| at.saturating_sub(first) > INSIST_AFTER);
    let request = match past.is_stopping {
        _ if is_interrupt && is_meant => Request::EndAtOnce,
        true => Request::StopAgain,
        false => Request::Stop,
    };
    let first_interrupt = past.first_interrupt.or(is_interrupt.then_some(at));
    (Past { is_stopping: true, first_interrupt }, request)
}

/// The caught signals. They wait until [`act`](Self::act) is called.
#[derive(Debug)]
pub(crate) struct Caught(Signals);

/// Catches SIGINT, SIGTERM, SIGUSR1, SIGXCPU and SIGHUP. If the program was started with SIGHUP ignored, for example by `nohup`,
/// it stays ignored.
///
/// # Errors
/// If the system refuses to install a handler.
pub(crate) fn catch() -> io::Result<Caught> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let is_left = |signal: &i32| *signal == SIGHUP && is_ignored(&status, SIGHUP);
    let signals = [SIGHUP, SIGINT, SIGTERM, SIGXCPU, SIGUSR1].into_iter().filter(|signal| !is_left(signal));
    Signals::new(signals).map(Caught)
}

/// Makes a write beyond the limit of file sizes (`ulimit -f`) an error instead of the end of the process. Where the system
/// refuses, the process ends there as it would without.
pub(crate) fn survive_file_size_limit() {
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)));
}

impl Caught {
    /// Calls `act` for every signal, on a separate thread, until the program ends.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub(crate) fn act(self, mut act: impl FnMut(Request) + Send + 'static) -> io::Result<()> {
        let Self(mut signals) = self;
        let began = Instant::now();
        let watching = move || {
            let mut past = Past::default();
            for signal in signals.forever() {
                let request;
                (past, request) = decide(past, signal, began.elapsed());
                act(request);
            }
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(watching).map(drop)
    }
}

/// Whether a process ignores a signal, according to its `/proc/self/status`.
fn is_ignored(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::Request::{EndAtOnce, Stop, StopAgain};
    use super::*;

    /// Checks the requests of signals at the given milliseconds.
    fn check(signals: &[(i32, u64, Request)]) {
        let mut past = Past::default();
        for (i, &(signal, millis, expected)) in signals.iter().enumerate() {
            let request;
            (past, request) = decide(past, signal, Duration::from_millis(millis));
            assert_eq!(request, expected, "signal {i} of {signals:?}");
        }
    }

    #[test]
    fn any_number_of_other_signals_is_one_request() {
        for signal in [SIGTERM, SIGUSR1, SIGXCPU, SIGHUP] {
            check(&[(signal, 0, Stop), (signal, 5, StopAgain), (signal, 90_000, StopAgain)]);
        }
        check(&[(SIGUSR1, 0, Stop), (SIGTERM, 30_000, StopAgain), (SIGHUP, 60_000, StopAgain)]);
    }

    #[test]
    fn an_interrupt_ends_at_once_where_another_came_more_than_a_second_before() {
        check(&[
            (SIGINT, 7, Stop),
            (SIGINT, 12, StopAgain),
            (SIGINT, 1007, StopAgain),
            (SIGINT, 1008, EndAtOnce),
        ]);
    }

    #[test]
    fn the_first_interrupt_is_no_second_one_whatever_came_before() {
        check(&[
            (SIGTERM, 0, Stop),
            (SIGINT, 5000, StopAgain),
            (SIGTERM, 9000, StopAgain),
            (SIGINT, 9001, EndAtOnce),
        ]);
    }

    #[test]
    fn what_nohup_ignores_is_read_from_the_mask() {
        let status = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000004002\n";
        assert!(is_ignored(status, SIGHUP));
        assert!(!is_ignored(status, SIGINT));
        assert!(!is_ignored("", SIGHUP));
    }
}
