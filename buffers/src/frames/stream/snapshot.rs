//! A stream as part of a saved state.
//!
//! Hot and compressed chunks are saved as they are. A mapped chunk is saved encoded, so that the state needs no file
//! beside it. Of a filed stream the state holds the counts alone.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Error as _, Visitor};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::frames::stream::FrameStream;
use crate::store::{Chunk, Codec, RowShape, codec};

#[derive(Serialize, Deserialize)]
struct StreamSnapshot<'a> {
    shape: RowShape,
    chunk_shift: u32,
    n_evicted: u64,
    n_rows: u64,
    is_filed: bool,
    #[serde(borrow)]
    chunks: Vec<ChunkSnapshot<'a>>,
}

#[derive(Serialize, Deserialize)]
enum ChunkSnapshot<'a> {
    Hot(#[serde(borrow)] Bytes<'a>),
    Encoded(#[serde(borrow)] Bytes<'a>),
}

impl<'a> ChunkSnapshot<'a> {
    fn of(chunk: &'a Chunk, shape: RowShape) -> crate::Result<Self> {
        match chunk {
            Chunk::Hot(rows) => Ok(Self::Hot(Bytes(Cow::Borrowed(rows)))),
            cold => Ok(Self::Encoded(Bytes(cold.encoded(shape, Codec::STORED)?))),
        }
    }
}

/// Bytes that serialize as one run instead of one by one.
struct Bytes<'a>(Cow<'a, [u8]>);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Bytes<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AsBytes;
        impl<'de> Visitor<'de> for AsBytes {
            type Value = Bytes<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
                Ok(Bytes(Cow::Borrowed(bytes)))
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Self::Value, E> {
                Ok(Bytes(Cow::Owned(bytes.to_vec())))
            }

            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Self::Value, E> {
                Ok(Bytes(Cow::Owned(bytes)))
            }
        }
        deserializer.deserialize_bytes(AsBytes)
    }
}

impl Serialize for FrameStream {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let saved = |chunk| ChunkSnapshot::of(chunk, self.shape).map_err(S::Error::custom);
        if self.is_filed && self.n_filed != self.n_rows {
            return Err(S::Error::custom(
                "a frame stream that is kept in a file and has rows that are not in it",
            ));
        }
        let n_saved = if self.is_filed { 0 } else { self.chunks.len() };
        let saved = StreamSnapshot {
            shape: self.shape,
            chunk_shift: self.chunk_shift,
            n_evicted: self.n_evicted as u64,
            n_rows: self.n_rows as u64,
            is_filed: self.is_filed,
            chunks: self.chunks.iter().take(n_saved).map(saved).collect::<Result<_, S::Error>>()?,
        };
        saved.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for FrameStream {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let StreamSnapshot { shape, chunk_shift, n_evicted, n_rows, is_filed, chunks } =
            StreamSnapshot::deserialize(deserializer)?;
        let wrong = || D::Error::custom("a saved frame stream whose chunks do not fit its rows");
        let rows_to = |number: u64| number.checked_mul(1u64.checked_shl(chunk_shift)?);
        let first = rows_to(n_evicted).ok_or_else(wrong)?;
        let mut left = n_rows.checked_sub(first).filter(|_| shape.row_bytes() > 0).ok_or_else(wrong)?;
        let mut stream = Self::empty(shape, chunk_shift);
        stream.n_evicted = n_evicted as usize;
        stream.n_rows = n_rows as usize;
        stream.is_filed = is_filed;
        if is_filed && chunks.is_empty() {
            // `FrameStream::refill` takes the chunks from the file before anything is read.
            return Ok(stream);
        }
        for chunk in chunks {
            let n = left.min(1 << chunk_shift);
            let fits = match &chunk {
                ChunkSnapshot::Hot(rows) => {
                    n.checked_mul(shape.row_bytes() as u64) == Some(rows.0.len() as u64)
                }
                ChunkSnapshot::Encoded(encoded) => {
                    let whole = codec::header(&encoded.0).map(|header| (header.shape, header.n_rows as u64));
                    n == 1 << chunk_shift && whole.is_ok_and(|whole| whole == (shape, n))
                }
            };
            if n == 0 || !fits {
                return Err(wrong());
            }
            stream.chunks.push_back(match chunk {
                ChunkSnapshot::Hot(rows) => Chunk::Hot(rows.0.into_owned()),
                ChunkSnapshot::Encoded(encoded) => Chunk::Compressed(encoded.0.into()),
            });
            left -= n;
        }
        stream.count();
        if left == 0 { Ok(stream) } else { Err(wrong()) }
    }
}
