//! Encodes chunks that are read by single rows, on a thread of its own.
//!
//! The encoder gets a copy of a chunk's rows, so that the chunk can be read or evicted meanwhile. The owner replaces the
//! chunk by the result whenever it has time. Rows read the same before and after, so that the time has no effect.

use std::collections::BTreeMap;
use std::thread::JoinHandle;

use crossbeam::channel::{Receiver, Sender, bounded, unbounded};

use crate::store::codec::{self, Codec};
use crate::store::rows::RowShape;

/// The most chunks that wait to be encoded.
const QUEUE_CHUNKS: usize = 64;
/// Allocations that are kept for the rows of the next chunks.
const N_SPARE: usize = 2;
/// The codec of a stream is chosen again after this many of its chunks.
const CHOOSE_EVERY: u64 = 64;

/// A chunk to be encoded.
#[derive(Debug)]
struct Task {
    stream: usize,
    number: u64,
    shape: RowShape,
    rows: Vec<u8>,
}

/// A chunk that has been encoded.
#[derive(Debug)]
pub(crate) struct Encoded {
    /// The number of its stream.
    pub(crate) stream: usize,
    /// The chunk's number in the stream.
    pub(crate) number: u64,
    /// The encoded chunk.
    pub(crate) bytes: Box<[u8]>,
    /// The allocation of the copied rows.
    rows: Vec<u8>,
}

/// The thread, and the queues of chunks to it and back.
#[derive(Debug)]
pub(crate) struct Encoder {
    tasks: Option<Sender<Task>>,
    done: Receiver<Encoded>,
    thread: Option<JoinHandle<()>>,
    n_waiting: usize,
    waiting_bytes: u64,
    /// Allocations for the rows of the next chunks.
    spare: Vec<Vec<u8>>,
}

impl Encoder {
    /// Starts the thread.
    pub(crate) fn start() -> memsys::Result<Self> {
        let (tasks, waiting) = bounded(QUEUE_CHUNKS);
        let (give, done) = unbounded();
        let thread = std::thread::Builder::new()
            .name("replay-encoder".to_owned())
            .spawn(move || encode_all(&waiting, &give))
            .map_err(|source| memsys::Error::Thread { what: "replay's encoder", source })?;
        Ok(Self {
            tasks: Some(tasks),
            done,
            thread: Some(thread),
            n_waiting: 0,
            waiting_bytes: 0,
            spare: Vec::new(),
        })
    }

    /// Whether another chunk can be given without waiting.
    pub(crate) fn has_room(&self) -> bool {
        self.n_waiting < QUEUE_CHUNKS
    }

    /// Number of chunks given and not taken back yet.
    pub(crate) fn n_waiting(&self) -> usize {
        self.n_waiting
    }

    /// Bytes of the rows given and not taken back yet.
    pub(crate) fn waiting_bytes(&self) -> u64 {
        self.waiting_bytes
    }

    /// Frees the spare allocations.
    pub(crate) fn free_spare(&mut self) {
        self.spare = Vec::new();
    }

    /// Gives the rows of a chunk to be encoded.
    ///
    /// # Panics
    /// With the panic of the encoder's thread, if it panicked.
    pub(crate) fn give(&mut self, stream: usize, number: u64, shape: RowShape, rows: &[u8]) {
        let mut copied = self.spare.pop().unwrap_or_default();
        copied.clear();
        copied.extend_from_slice(rows);
        let task = Task { stream, number, shape, rows: copied };
        if self.tasks.as_ref().is_none_or(|tasks| tasks.send(task).is_err()) {
            self.join();
        }
        self.n_waiting += 1;
        self.waiting_bytes += rows.len() as u64;
    }

    /// Takes an encoded chunk. With `wait` it waits for one if any chunk is being encoded.
    ///
    /// # Panics
    /// With the panic of the encoder's thread, if it panicked.
    pub(crate) fn take(&mut self, wait: bool) -> Option<Encoded> {
        if self.n_waiting == 0 {
            return None;
        }
        let mut encoded = match self.done.try_recv() {
            Ok(encoded) => encoded,
            Err(crossbeam::channel::TryRecvError::Empty) if !wait => return None,
            Err(_) => match self.done.recv() {
                Ok(encoded) => encoded,
                Err(_) => {
                    self.join();
                    return None;
                }
            },
        };
        self.n_waiting -= 1;
        self.waiting_bytes -= encoded.rows.len() as u64;
        if self.spare.len() < N_SPARE {
            self.spare.push(std::mem::take(&mut encoded.rows));
        }
        Some(encoded)
    }

    fn join(&mut self) {
        self.tasks = None;
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join)
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        self.join();
    }
}

fn encode_all(tasks: &Receiver<Task>, done: &Sender<Encoded>) {
    let mut codecs: BTreeMap<usize, Codec> = BTreeMap::new();
    for Task { stream, number, shape, rows } in tasks {
        let chosen = codecs.get(&stream).copied().filter(|_| !number.is_multiple_of(CHOOSE_EVERY));
        let codec = chosen.unwrap_or_else(|| codec::choose_single(shape, &rows));
        codecs.insert(stream, codec);
        let bytes = codec::encode(codec, shape, &rows).into_boxed_slice();
        if done.send(Encoded { stream, number, bytes, rows }).is_err() {
            return;
        }
    }
}
