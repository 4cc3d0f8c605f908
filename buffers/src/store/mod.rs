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
mod chunk;
pub mod codec;
mod encoder;
pub mod file;
pub mod options;
pub mod rows;

pub use cache::ChunkCache;
pub use chunk::{Chunk, MappedChunk, RefusedChunk};
pub use codec::{Codec, Predictor, Transform};
pub(crate) use encoder::Encoder;
pub use file::damage::{Damage, Part};
pub(crate) use file::header::DATA_OFFSET;
pub use file::index::Index;
pub use file::record::{Entry, Identity};
pub use file::verify::{Inspection, StreamInspection, Verification, inspect, read_bytes, verify};
pub use file::writer::{ChunkWriter, Durability, Opened, copy_readable};
pub use file::{ChunkFile, ChunkReader};
pub use options::{StoreOptions, Tier};
pub use rows::{RowKind, RowShape};
