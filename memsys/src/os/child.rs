//! A child process whose peak of resident memory the kernel tells when it ends.

use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};

/// A child process. Dropping it does not end it.
#[derive(Debug)]
pub struct MeasuredChild {
    pid: libc::pid_t,
    ended: Option<ChildEnd>,
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChildEnd {
    /// Its exit status, or the signal that killed it.
    pub status: ExitStatus,
    /// The most bytes that were resident at once, up to its last moment. At least what this process held when it
    /// started the child.
    pub peak_resident_bytes: u64,
}

impl MeasuredChild {
    /// Starts a command. It can be interrupted, also where this process ignores SIGINT, as what a shell starts in the
    /// background does.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        let heed_interrupts = || {
            // SAFETY: `signal` is safe between fork and exec, and the default action is no function of ours.
            unsafe { libc::signal(libc::SIGINT, libc::SIG_DFL) };
            Ok(())
        };
        // SAFETY: between fork and exec the closure calls `signal` alone, and allocates nothing.
        unsafe { command.pre_exec(heed_interrupts) };
        // The standard library never waits for a child by itself, so the pid stays valid until `try_wait` ends it.
        let pid = libc::pid_t::try_from(command.spawn()?.id()).map_err(io::Error::other)?;
        Ok(Self { pid, ended: None })
    }

    /// How the child ended; `None` while it runs.
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub fn try_wait(&mut self) -> io::Result<Option<ChildEnd>> {
        self.wait(libc::WNOHANG)
    }

    /// Asks the child to stop, as Ctrl-C does. Does nothing if it has ended.
    pub fn interrupt(&self) {
        self.send(libc::SIGINT);
    }

    /// Kills the child if it still runs, and waits for its end.
    ///
    /// # Errors
    /// If the kernel does not tell how it ended.
    pub fn kill(&mut self) -> io::Result<Option<ChildEnd>> {
        self.send(libc::SIGKILL);
        self.wait(0)
    }

    fn send(&self, signal: libc::c_int) {
        if self.ended.is_none() {
            // SAFETY: the call touches no memory. The pid is that of a child that nobody has waited for yet, so it
            // belongs to no other process.
            unsafe { libc::kill(self.pid, signal) };
        }
    }

    fn wait(&mut self, options: libc::c_int) -> io::Result<Option<ChildEnd>> {
        if self.ended.is_some() {
            return Ok(self.ended);
        }
        let mut status = 0;
        let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: `status` and `usage` are room for what is written. The pid is that of a child of this process.
        let waited = unsafe { libc::wait4(self.pid, &raw mut status, options, usage.as_mut_ptr()) };
        match waited {
            0 => {}
            waited if waited == self.pid => {
                // SAFETY: `wait4` has filled it, and zeros would be valid too.
                let kib = unsafe { usage.assume_init() }.ru_maxrss;
                let peak_resident_bytes = u64::try_from(kib).unwrap_or(0) * 1024;
                self.ended = Some(ChildEnd { status: ExitStatus::from_raw(status), peak_resident_bytes });
            }
            _ => return Err(io::Error::last_os_error()),
        }
        Ok(self.ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> MeasuredChild {
        MeasuredChild::spawn(Command::new("sh").args(["-c", script])).unwrap()
    }

    #[test]
    fn the_end_names_the_status_and_a_peak_that_grows_with_what_was_held() {
        let end = |script: &str| {
            let mut child = shell(script);
            loop {
                if let Some(end) = child.try_wait().unwrap() {
                    assert_eq!(child.try_wait().unwrap(), Some(end), "asked again it says the same");
                    return end;
                }
                std::thread::yield_now();
            }
        };
        assert_eq!(end("exit 3").status.code(), Some(3));
        let idle = end(":").peak_resident_bytes;
        // More than this test's process holds itself, which is the least that the kernel tells.
        let held =
            end("head -c 300000000 /dev/zero | tail -c 300000000 > /dev/null & wait").peak_resident_bytes;
        assert!(idle > 0 && held >= idle.max(250_000_000), "{idle} {held}");
    }

    #[test]
    fn a_child_is_interrupted_or_killed_and_what_has_ended_stays_so() {
        let mut killed = shell("sleep 1000");
        assert_eq!(killed.try_wait().unwrap(), None);
        let end = killed.kill().unwrap().unwrap();
        assert_eq!(end.status.signal(), Some(libc::SIGKILL));
        killed.interrupt();
        assert_eq!(killed.kill().unwrap(), Some(end));
        let mut interrupted = shell("exec sleep 1000");
        interrupted.interrupt();
        assert_eq!(interrupted.wait(0).unwrap().unwrap().status.signal(), Some(libc::SIGINT));
    }
}
