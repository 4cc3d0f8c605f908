//! The refusal of an allocation: who asked, for how much, and what is left.
//!
//! A refusal is plain numbers. Its text names the five largest owners of the moment at which it is printed, so print it
//! close to where it happened. It does not decide anything: [`budget`](crate::ledger::budget) refuses.

use std::fmt;

use crate::ledger::{Owner, OwnerBytes, largest_owners};
use crate::limit::Readable;

/// An allocation for which the memory limit had no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// The owner that asked.
    pub owner: Owner,
    /// The bytes that it asked for.
    pub wanted_bytes: u64,
    /// The bytes that were left under the memory limit after caches were collected.
    pub left_bytes: u64,
    /// The memory limit.
    pub limit_bytes: u64,
}

impl Refusal {
    pub(crate) fn of(self, owner: Owner) -> Self {
        Self { owner, ..self }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { owner, wanted_bytes, left_bytes, limit_bytes } = self;
        write!(
            formatter,
            "{} asked for {} and the memory limit of {} has {} left; the largest owners are",
            owner.path(),
            Readable(*wanted_bytes),
            Readable(*limit_bytes),
            Readable(*left_bytes)
        )?;
        for (rank, OwnerBytes { path, bytes, .. }) in largest_owners(5).iter().enumerate() {
            write!(formatter, "{} {path} {}", if rank == 0 { "" } else { "," }, Readable(*bytes))?;
        }
        Ok(())
    }
}
