//! Inputs for fuzzing the reader of replay files. The crate uses `buffers` without its feature `tensors`, so that no
//! libtorch is needed, whose libraries are not instrumented.
//!
//! The first byte of an input says how to read the rest:
//!
//! ```text
//! bit 0 clear   the rest is a whole file
//!       set     header 64 · commit mark 64 · records: this crate adds the second copies and the zeros of the head
//! bit 1 set     this crate corrects offsets, lengths and checksums, so that the fuzzer reaches the code behind them
//! ```

const DATA: usize = 4096;
const BLOCK: usize = 64;
const HEADS: [usize; 4] = [0, 512, 1024, 2048];

/// The file that an input stands for.
#[must_use]
pub fn file_of(input: &[u8]) -> Vec<u8> {
    let Some((how, rest)) = input.split_first() else { return Vec::new() };
    let mut file = if how & 1 == 0 { rest.to_vec() } else { expanded(rest) };
    if how & 2 != 0 && file.len() >= DATA {
        mend(&mut file);
    }
    file
}

/// The input that stands for a whole file.
#[must_use]
pub fn input_of(file: &[u8]) -> Vec<u8> {
    [&[3], &file[..BLOCK], &file[HEADS[2]..HEADS[2] + BLOCK], &file[DATA..]].concat()
}

fn expanded(rest: &[u8]) -> Vec<u8> {
    let mut file = vec![0; DATA];
    let (blocks, records) = rest.split_at(rest.len().min(2 * BLOCK));
    for (at, block) in HEADS.iter().zip([0, 0, 1, 1]) {
        let block = blocks.get(block * BLOCK..).unwrap_or_default();
        let block = &block[..block.len().min(BLOCK)];
        file[*at..*at + block.len()].copy_from_slice(block);
    }
    file.extend_from_slice(records);
    file
}

fn mend(file: &mut [u8]) {
    let committed = file.len() as u64 / 8 * 8;
    for at in HEADS {
        if at >= HEADS[2] {
            file[at + 16..at + 24].copy_from_slice(&committed.to_le_bytes());
        }
        seal(&mut file[at..at + BLOCK]);
    }
    let mut at = DATA;
    while at + BLOCK <= file.len() {
        let (header, payload) = file[at..].split_at_mut(BLOCK);
        let stored = u32::from_le_bytes([header[44], header[45], header[46], header[47]]) as usize;
        // The last record takes all remaining bytes, so that a longer or shorter payload is still a record.
        let padded = stored.next_multiple_of(8);
        let n_bytes = if padded > payload.len() { payload.len() / 8 * 8 } else { padded };
        if n_bytes < padded {
            header[44..48].copy_from_slice(&(n_bytes as u32).to_le_bytes());
        }
        header[8..16].copy_from_slice(&(at as u64).to_le_bytes());
        header[52..56].copy_from_slice(&crc32fast::hash(&payload[..n_bytes]).to_le_bytes());
        seal(header);
        at += BLOCK + n_bytes;
    }
}

fn seal(block: &mut [u8]) {
    let (content, sum) = block.split_at_mut(BLOCK - 4);
    sum.copy_from_slice(&crc32fast::hash(content).to_le_bytes());
}
