//! Encodes chunks of which single rows are read, on a thread of its own.
//!
//! What is to be encoded is a copy of a chunk's rows, so that the chunk can be read, evicted or appended behind in the
//! meantime; the owner puts the result in the chunk's place when it next has time. Rows read the same before and
//! after, so that it does not matter when that is.

use std::collections::BTreeMap;
use std::thread::JoinHandle;

use crossbeam::channel::{Receiver, Sender, bounded, unbounded};

use crate::store::codec::{self, Codec};
use crate::store::rows::RowShape;

/// Chunks that may wait to be encoded.
const QUEUE_CHUNKS: usize = 64;
/// Rooms that are kept for the next chunks' rows.
const SPARE_ROOMS: usize = 2;
/// A stream's codec is chosen anew after this many of its chunks.
const CHOOSE_EVERY: u64 = 64;

/// A chunk on its way.
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
    /// Whose it is.
    pub(crate) stream: usize,
    /// Which of the stream's chunks.
    pub(crate) number: u64,
    /// The chunk.
    pub(crate) bytes: Box<[u8]>,
    /// The room of its rows.
    rows: Vec<u8>,
}

/// The thread, and the chunks on their way to it and back.
#[derive(Debug)]
pub(crate) struct Encoder {
    tasks: Option<Sender<Task>>,
    done: Receiver<Encoded>,
    thread: Option<JoinHandle<()>>,
    n_waiting: usize,
    waiting_bytes: u64,
    /// Room for the next chunk's rows.
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

    /// Chunks given and not taken back yet.
    pub(crate) fn n_waiting(&self) -> usize {
        self.n_waiting
    }

    /// Bytes of the rows given and not taken back yet.
    pub(crate) fn waiting_bytes(&self) -> u64 {
        self.waiting_bytes
    }

    /// Gives the rooms that are kept back.
    pub(crate) fn free_spare(&mut self) {
        self.spare = Vec::new();
    }

    /// Gives a chunk's rows to be encoded.
    ///
    /// # Panics
    /// As the thread panicked, where it has.
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

    /// A chunk that is done; waits for it where `wait` says so and one is on its way.
    ///
    /// # Panics
    /// As the thread panicked, where it has.
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
        if self.spare.len() < SPARE_ROOMS {
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
