//! Chunks of rows and where they lie: hot, compressed, or mapped from a file that outlives the process.
//!
//! ```text
//!  append ──> Hot ──encode──> Compressed ──append──> Mapped        read ──> ChunkCache (decompressed rows)
//!             rows            packed, or             ChunkFile:             ▲ decode
//!                             predictor, shuffle,    head, records, index ──┘
//!                             DEFLATE                                          single rows of packed chunks: as they are
//! ```
//!
//! Reading order: [`rows`] (what a row is), [`codec`] with `pack` and its steps `predict` and `shuffle`, [`cache`],
//! `chunk`; [`options`] and `encoder`; then the file: `checksum`, `damage`, `head`, `record`, `index`, `window`,
//! [`file`](mod@file), [`writer`], [`verify`](mod@verify).
//! Everything is lossless to the bit. Nothing here decides when a chunk moves: the streams' owner does.

pub mod cache;
mod checksum;
mod chunk;
pub mod codec;
mod damage;
mod encoder;
pub mod file;
mod head;
mod index;
pub mod options;
mod pack;
mod predict;
mod record;
pub mod rows;
mod shuffle;
pub mod verify;
mod window;
pub mod writer;

#[cfg(test)]
mod crash;
#[cfg(test)]
mod flips;

pub use cache::ChunkCache;
pub use chunk::{Chunk, MappedChunk, RefusedChunk};
pub use codec::{Codec, Predictor, Transform};
pub use damage::{Damage, Part};
pub(crate) use encoder::Encoder;
pub use file::{ChunkFile, ChunkReader};
pub(crate) use head::DATA_OFFSET;
pub use index::Index;
pub use options::{StoreOptions, Tier};
pub use record::{Entry, Identity};
pub use rows::{RowKind, RowShape};
pub use verify::{Inspection, StreamInspection, Verification, inspect, read_bytes, verify};
pub use writer::{ChunkWriter, Durability, Opened, copy_readable};
