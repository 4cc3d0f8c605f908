//! What a file holds beneath its compression, and its text as UTF-8 with one line feed at the end of each line.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use crate::error::{Error, Result};
use crate::market::import::source::{file_error, open};

/// Bytes of a file that are read at a time.
const BUFFER_BYTES: usize = 1 << 16;

/// The format of a file, told by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Text in columns.
    Text,
    /// JSON: lines, or one list.
    Json,
    /// Parquet.
    Parquet,
    /// An Arrow file, which is Feather of version 2.
    Feather,
}

/// The format of a file.
///
/// # Errors
/// Where there is no such file, it is empty, or it is packed in a way that is not read.
pub(super) fn format(path: &Path) -> Result<Format> {
    let mut packed = open(path)?;
    let is_packed = is_gzip(peek(&mut packed, path)?) || is_zstd(peek(&mut packed, path)?);
    let mut file = unpack(packed, path)?;
    let head = peek(&mut file, path)?;
    let named = |ends: &[&str]| {
        path.extension().is_some_and(|end| ends.iter().any(|known| end.eq_ignore_ascii_case(known)))
    };
    let archives: [&[u8]; 4] = [b"PK\x03\x04", b"BZh", b"\xfd7zXZ\0", b"7z\xbc\xaf\x27\x1c"];
    let first = head.iter().find(|byte| !byte.is_ascii_whitespace());
    let problem = if head.is_empty() {
        "the file is empty: expected a header and bars"
    } else if archives.iter().any(|magic| head.starts_with(magic)) {
        "the file is an archive: unpack it first (.gz and .zst are read as they are)"
    } else if head.starts_with(b"PAR1") || head.starts_with(b"ARROW1") {
        match is_packed {
            true => "holds Parquet or Feather, which can be read only unpacked: unpack it first",
            false if head.starts_with(b"PAR1") => return Ok(Format::Parquet),
            false => return Ok(Format::Feather),
        }
    } else if named(&["parquet", "pq"]) {
        "the file is not Parquet (it does not begin with PAR1): name it .csv if it is text, else fetch it again"
    } else if named(&["feather", "arrow"]) {
        "the file is not Feather of version 2 (it does not begin with ARROW1): write it anew, or as CSV or Parquet"
    } else if matches!(first, Some(b'[' | b'{')) {
        return Ok(Format::Json);
    } else {
        return Ok(Format::Text);
    };
    Err(file_error(path, problem))
}

/// The text of a file: unpacked, as UTF-8 without byte order mark, with `\n` at the end of each line.
///
/// # Errors
/// Where the file cannot be opened.
pub(super) fn text(path: &Path) -> Result<Box<dyn Read>> {
    let mut file = unpack(open(path)?, path)?;
    let head = peek(&mut file, path)?;
    let utf16 = match head {
        [0xff, 0xfe, ..] => Some((2, u16::from_le_bytes as fn([u8; 2]) -> u16)),
        [0xfe, 0xff, ..] => Some((2, u16::from_be_bytes as fn([u8; 2]) -> u16)),
        [a, 0, b, 0, ..] if *a != 0 && *b != 0 => Some((0, u16::from_le_bytes as fn([u8; 2]) -> u16)),
        _ => None,
    };
    let n_mark = utf16.map_or(if head.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 }, |(n_mark, _)| n_mark);
    file.consume(n_mark);
    let utf8: Box<dyn BufRead> = match utf16 {
        Some((_, unit)) => Box::new(BufReader::with_capacity(BUFFER_BYTES, Utf16 { inner: file, unit })),
        None => file,
    };
    Ok(Box::new(LineFeeds::new(utf8)))
}

/// The error of a read that failed: a packed file that is cut off is the user's to fetch again.
pub(super) fn read_error(path: &Path, source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof => {
            file_error(
                path,
                format!("cannot be read to its end ({source}): is it cut off or damaged? Fetch it again"),
            )
        }
        // zstd has no kind of its own for a damaged frame.
        io::ErrorKind::Other => file_error(path, format!("cannot be unpacked ({source}): fetch it again")),
        _ => Error::Io { path: path.to_path_buf(), source },
    }
}

fn peek<'a>(file: &'a mut impl BufRead, path: &Path) -> Result<&'a [u8]> {
    file.fill_buf().map_err(|source| read_error(path, source))
}

fn is_gzip(head: &[u8]) -> bool {
    head.starts_with(&[0x1f, 0x8b])
}

fn is_zstd(head: &[u8]) -> bool {
    head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])
}

fn unpack(mut file: BufReader<File>, path: &Path) -> Result<Box<dyn BufRead>> {
    let head = peek(&mut file, path)?;
    let (gzip, zstd) = (is_gzip(head), is_zstd(head));
    Ok(if gzip {
        Box::new(BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(file)))
    } else if zstd {
        let decoder = zstd::Decoder::with_buffer(file).map_err(|source| read_error(path, source))?;
        Box::new(BufReader::with_capacity(BUFFER_BYTES, decoder))
    } else {
        Box::new(file)
    })
}

/// UTF-8 from UTF-16.
struct Utf16<R> {
    inner: R,
    unit: fn([u8; 2]) -> u16,
}

impl<R: BufRead> Read for Utf16<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let mut n_out = 0;
        // Two units make at most four bytes of UTF-8.
        while n_out + 4 <= out.len() {
            let Some(first) = self.next_unit()? else { break };
            let pair = if (0xd800..0xdc00).contains(&first) { self.next_unit()? } else { None };
            for c in char::decode_utf16([first].into_iter().chain(pair)) {
                let c = c.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not UTF-16"))?;
                n_out += c.encode_utf8(&mut out[n_out..]).len();
            }
        }
        Ok(n_out)
    }
}

impl<R: BufRead> Utf16<R> {
    fn next_unit(&mut self) -> io::Result<Option<u16>> {
        let mut bytes = [0; 2];
        for byte in &mut bytes {
            match self.inner.fill_buf()?.first() {
                Some(next) => *byte = *next,
                None => return Ok(None),
            }
            self.inner.consume(1);
        }
        Ok(Some((self.unit)(bytes)))
    }
}

/// A text with `\n` at the end of each line, whatever it had: `\r\n`, `\r`, or nothing at its end.
struct LineFeeds<R> {
    inner: R,
    after_return: bool,
    at_line_start: bool,
}

impl<R: BufRead> LineFeeds<R> {
    fn new(inner: R) -> LineFeeds<R> {
        LineFeeds { inner, after_return: false, at_line_start: true }
    }
}

impl<R: BufRead> Read for LineFeeds<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            let chunk = self.inner.fill_buf()?;
            if chunk.is_empty() {
                let n = usize::from(!self.at_line_start);
                out[..n].fill(b'\n');
                self.at_line_start = true;
                return Ok(n);
            }
            let n_in = chunk.len().min(out.len());
            let mut n_out = 0;
            for byte in &chunk[..n_in] {
                if *byte == b'\n' && self.after_return {
                    self.after_return = false;
                    continue;
                }
                self.after_return = *byte == b'\r';
                out[n_out] = if self.after_return { b'\n' } else { *byte };
                n_out += 1;
            }
            self.inner.consume(n_in);
            if n_out > 0 {
                self.at_line_start = out[n_out - 1] == b'\n';
                return Ok(n_out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn lines_end_alike_however_the_text_is_cut_into_reads(
            text in prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'a')], 0..40),
            n_in in 1..5usize,
            n_out in 1..5usize,
        ) {
            let mut reader = LineFeeds::new(BufReader::with_capacity(n_in, text.as_slice()));
            let mut read = Vec::new();
            let mut out = vec![0; n_out];
            loop {
                let n = reader.read(&mut out).unwrap();
                if n == 0 {
                    break;
                }
                read.extend_from_slice(&out[..n]);
            }
            let mut expected = String::from_utf8(text).unwrap().replace("\r\n", "\n").replace('\r', "\n");
            if !expected.is_empty() && !expected.ends_with('\n') {
                expected.push('\n');
            }
            prop_assert_eq!(String::from_utf8(read).unwrap(), expected);
        }
    }
}
