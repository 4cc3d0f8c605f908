//! Buffers: large holders of data that can hold less of it, at a price.
//!
//! What is only cached goes by [`budget::add_collector`](crate::ledger::budget::add_collector), which costs time alone. A
//! buffer gives data up: it compresses, moves to disk, or lets the oldest go. It is asked only where the memory limit is near.

/// A holder of data that can give bytes back. It is asked from a thread of the system's, at any time: it takes its
/// locks by trying, or notes the wish and gives at a safe point of its own.
pub trait Buffer: Send + Sync {
    /// Its name in logs.
    fn name(&self) -> &'static str;

    /// Bytes that it could give back.
    fn bytes(&self) -> u64;

    /// Gives up to `bytes` back and returns how many it gave now; 0 where it will give later.
    fn give_back(&self, bytes: u64) -> u64;
}
