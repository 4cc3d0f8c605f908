//! What of memsys files and frame streams take, without libtorch: mappings and the page cache are mounted as they are,
//! and nothing is counted or refused.

#![allow(dead_code, reason = "three files are mounted whole, of which some is used")]

/// The files that need no libtorch.
pub mod libtorch {
    pub use crate::map::{Access, Map};
    pub use crate::page_cache::{read_randomly, will_need};
    pub use crate::prefetch::{prefetch, prefetch_value};
}
#[path = "../../../../memsys/src/libtorch/map.rs"]
mod map;
#[path = "../../../../memsys/src/libtorch/page_cache.rs"]
mod page_cache;
#[path = "../../../../memsys/src/libtorch/prefetch.rs"]
mod prefetch;

/// Stands for an error of memsys.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system starts no thread.
    #[error("cannot start the thread of the {what}: {source}")]
    Thread {
        /// What it is for.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A result of memsys.
pub type Result<T> = std::result::Result<T, Error>;

/// Stands for the ledger.
pub mod ledger {
    /// Whose bytes would be counted.
    #[derive(Debug, Clone, Copy)]
    pub struct Owner;

    impl Owner {
        /// An owner.
        #[must_use]
        pub fn named(_path: &'static str) -> Self {
            Self
        }
    }
}

/// Stands for reservations.
pub mod reservation {
    use crate::ledger::Owner;

    /// Bytes that no memory limit refuses.
    #[derive(Debug)]
    pub struct Reservation(u64);

    impl Reservation {
        /// None yet.
        #[must_use]
        pub fn of_heap(_owner: Owner) -> Self {
            Self(0)
        }

        /// None yet.
        #[must_use]
        pub fn declared(_owner: Owner) -> Self {
            Self(0)
        }

        /// Bytes held.
        #[must_use]
        pub fn bytes(&self) -> u64 {
            self.0
        }

        /// Holds `bytes`.
        ///
        /// # Errors
        /// None.
        pub fn try_set(&mut self, bytes: u64) -> crate::Result<()> {
            self.set(bytes);
            Ok(())
        }

        /// Holds `bytes`.
        pub fn set(&mut self, bytes: u64) {
            self.0 = bytes;
        }
    }
}
