//! Large holders of data that can hold less of it at a price, such as a replay buffer.
//!
//! To give back a cache costs time only; caches register with
//! [`budget::add_collector`](crate::ledger::budget::add_collector) instead. A reclaimable holder gives data up: it
//! compresses it, moves it to disk, or evicts the oldest. The memory system asks it only when the memory limit is near.

/// A holder of data that can give bytes back.
///
/// The memory system calls it from its monitor's thread at any time. An implementation must only try its locks, or note
/// the request and give the bytes back later at a safe point.
pub trait Reclaimable: Send + Sync {
    /// The holder's name in logs.
    fn name(&self) -> &'static str;

    /// Bytes that the holder could give back.
    fn bytes(&self) -> u64;

    /// Gives up to `bytes` back and returns how many it gave before it returned; 0 if it gives them later.
    fn give_back(&self, bytes: u64) -> u64;
}
