//! Chunks of rows in three tiers: hot, compressed, or mapped from a file that outlives the process.
//!
//! ```text
//!  append ──> Hot ──encode──> Compressed ──append──> Mapped        read ──> ChunkCache (decompressed rows)
//!             rows            packed, or             ChunkFile:             ▲ decode
//!                             predictor, shuffle,    head, records, index ──┘
//!                             DEFLATE                  (single rows of packed chunks are read directly)
//! ```
//!
//! Reading order: [`rows`], [`codec`] with its steps `delta`, `shuffle` and `bit_packing`, [`cache`], `chunk`, [`options`]
//! and `encoder`; then [`file`](mod@file): `checksum`, `damage`, `header`, `record`, `index`, `mapped_window`,
//! [`writer`](file::writer), [`verify`](mod@file::verify). All codecs are lossless to the bit. The owner of the streams,
//! and not this module, decides when a chunk moves.

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
pub use file::damage::{Damage, FilePart};
pub(crate) use file::header::DATA_OFFSET;
pub use file::index::Index;
pub use file::record::{Entry, Identity};
pub use file::verify::{Inspection, StreamInspection, Verification, inspect, read_bytes, verify};
pub use file::writer::{ChunkWriter, CommitId, Durability, Opened, copy_readable, require_saved};
pub use file::{ChunkFile, ChunkReader};
pub use options::{StoreOptions, Tier};
pub use rows::{RowKind, RowShape};
