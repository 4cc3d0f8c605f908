//! The operating system: readings of memory, control groups and children, the global allocator, mapped files, the page
//! cache, thread stacks.
//!
//! These are thin, safe wrappers around the C library and `/proc`. They decide nothing and need no libtorch.
#![allow(unsafe_code, reason = "the border to the C library; every block states why it is sound")]

mod child;
mod control_group;
pub mod cuda_driver;
mod file_system;
mod global_allocator;
mod guarded_read;
mod malloc;
mod mapped_file;
mod memory_groups;
mod page_cache;
mod prefetch;
pub mod probe;
mod processor_time;
mod random;
mod thread_stack;

pub use child::{ChildEnd, MeasuredChild};
pub use control_group::ControlGroup;
pub use file_system::{free_bytes, lies_in_memory};
pub use global_allocator::CountedHeap;
pub use malloc::{n_heap_trims, trim_heap, tune_malloc};
pub use mapped_file::{Access, Map};
pub use page_cache::{bytes_read_by_this_thread, forget_cached, read_randomly, will_need};
pub use prefetch::{prefetch, prefetch_value};
pub use processor_time::processor_seconds;
pub use random::random_u64;
pub use thread_stack::count_stack;
