//! Random numbers of the kernel, for names that must differ between processes and machines.

use std::io::{Error, ErrorKind, Result};

/// A number that no other call gives, on this machine or another one. No result of a run depends on it.
///
/// # Errors
/// The kernel's error if it has no random numbers to give.
pub fn random_u64() -> Result<u64> {
    let mut bytes = [0u8; 8];
    // SAFETY: the pointer and the length are those of `bytes`, which the call fills.
    let n = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    match n {
        8 => Ok(u64::from_le_bytes(bytes)),
        n if n < 0 => Err(Error::last_os_error()),
        // The kernel gives up to 256 bytes at once.
        _ => Err(Error::from(ErrorKind::Interrupted)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_numbers_differ() {
        assert_ne!(random_u64().unwrap(), random_u64().unwrap());
    }
}
