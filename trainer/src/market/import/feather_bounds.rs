//! What a Feather file claims of its own sizes, checked before its decoder allocates as much.
//!
//! The decoder takes the sizes of a damaged file on trust, and an allocation that fails ends the program.

use std::io::{Read, Seek, SeekFrom};

use arrow_ipc::reader::read_footer_length;
use arrow_ipc::{Block, root_as_footer, root_as_message};

/// The most bytes of one unpacked column of one batch.
const MOST_BUFFER_BYTES: i64 = 1 << 30;
/// Bytes of the length and the mark at a file's end.
const END_BYTES: usize = 10;

/// Checks that the parts of a file lie inside it, and that its packed columns claim sizes that a file of bars can have.
///
/// # Errors
/// What is wrong.
pub(super) fn check_bounds(mut file: impl Read + Seek) -> Result<(), String> {
    let file_bytes = file.seek(SeekFrom::End(0)).map_err(|error| error.to_string())?;
    let end_at = file_bytes.checked_sub(END_BYTES as u64).ok_or("it is cut off")?;
    let mut end = [0; END_BYTES];
    end.copy_from_slice(&bytes_at(&mut file, file_bytes, end_at, END_BYTES as u64)?);
    let footer_bytes = read_footer_length(end).map_err(|error| error.to_string())? as u64;
    let footer_at = end_at.checked_sub(footer_bytes).ok_or("its footer is longer than the file")?;
    let footer = bytes_at(&mut file, file_bytes, footer_at, footer_bytes)?;
    let footer = root_as_footer(&footer).map_err(|error| format!("its footer is damaged: {error}"))?;
    for block in footer.dictionaries().into_iter().chain(footer.recordBatches()).flatten() {
        check_block(&mut file, file_bytes, block)?;
    }
    Ok(())
}

/// Checks a block: a message that describes a batch of rows, and the batch's bytes.
fn check_block(file: &mut (impl Read + Seek), file_bytes: u64, block: &Block) -> Result<(), String> {
    let beyond = || "a part of it lies beyond its end".to_owned();
    let [at, message_bytes, body_bytes] =
        [block.offset(), i64::from(block.metaDataLength()), block.bodyLength()].map(u64::try_from);
    let (Ok(at), Ok(message_bytes), Ok(body_bytes)) = (at, message_bytes, body_bytes) else {
        return Err(beyond());
    };
    let body_at = at.checked_add(message_bytes).ok_or_else(beyond)?;
    if body_at.checked_add(body_bytes).is_none_or(|end| end > file_bytes) {
        return Err(beyond());
    }
    let message = bytes_at(file, file_bytes, at, message_bytes)?;
    // The length of the message stands before it, since 2019 behind a mark.
    let n_before = if message.starts_with(&[0xff; 4]) { 8 } else { 4 };
    let message = message.get(n_before..).ok_or_else(beyond)?;
    let message = root_as_message(message).map_err(|error| format!("a part of it is damaged: {error}"))?;
    let batch = message
        .header_as_record_batch()
        .or_else(|| message.header_as_dictionary_batch().and_then(|b| b.data()));
    let Some(batch) = batch.filter(|batch| batch.compression().is_some()) else { return Ok(()) };
    for buffer in batch.buffers().into_iter().flatten().filter(|buffer| buffer.length() > 0) {
        let offset = u64::try_from(buffer.offset()).map_err(|_| beyond())?;
        let claim_at = body_at.checked_add(offset).ok_or_else(beyond)?;
        let mut claim = [0; 8];
        claim.copy_from_slice(&bytes_at(file, file_bytes, claim_at, 8)?);
        if i64::from_le_bytes(claim) > MOST_BUFFER_BYTES {
            return Err("a column of it claims more bytes than a file of bars has".to_owned());
        }
    }
    Ok(())
}

/// Bytes of a file, which must lie inside it.
fn bytes_at(
    file: &mut (impl Read + Seek),
    file_bytes: u64,
    at: u64,
    n_bytes: u64,
) -> Result<Vec<u8>, String> {
    if at.checked_add(n_bytes).is_none_or(|end| end > file_bytes) {
        return Err("a part of it lies beyond its end".to_owned());
    }
    let mut bytes = vec![0; usize::try_from(n_bytes).map_err(|error| error.to_string())?];
    file.seek(SeekFrom::Start(at))
        .and_then(|_| file.read_exact(&mut bytes))
        .map_err(|error| error.to_string())?;
    Ok(bytes)
}
