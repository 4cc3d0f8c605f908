//! TensorBoard event files, written without TensorFlow.
//!
//! An event file is a sequence of TFRecords, each `length: u64, masked CRC-32C of the length: u32, data, masked CRC-32C
//! of the data: u32`, little-endian (TensorFlow, `tsl/lib/io/record_writer.cc`). The data of each is a protocol buffer
//! `Event` (`tensorflow/core/util/event.proto`), of which this writes four fields:
//!
//! ```text
//! Event   { 1: double wall_time, 2: int64 step, 3: string file_version | 5: Summary | 7: SessionLog }
//! Summary { 1: Value { 1: string tag, 2: float simple_value } }      SessionLog { 1: status, START = 1 }
//! ```
//!
//! It writes scalars only. A resumed run opens a further file that begins with a `START` at the first step it takes
//! again: TensorBoard then drops what older files hold from that step on, which is its own way of marking a restart.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{Error, Result};

const FILE_PREFIX: &str = "events.out.tfevents.";

/// Writes scalars into one event file.
#[derive(Debug)]
pub struct EventWriter {
    path: PathBuf,
    file: BufWriter<File>,
}

impl EventWriter {
    /// Opens a new event file in `folder`, which is made where it is missing.
    ///
    /// # Errors
    /// [`Error::Io`] where the folder or the file cannot be made.
    pub fn create(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
        // TensorBoard reads the files of a folder in the order of their names, so a later file must have a later
        // name, also within one second and after a clock was set back.
        let seconds = (wall_time() as u64).max(newest(folder)?.map_or(0, |newest| newest + 1));
        let path = folder.join(format!("{FILE_PREFIX}{seconds:010}.{}", host()));
        let file = File::create_new(&path).map_err(Error::io(&path))?;
        let mut writer = Self { path, file: BufWriter::new(file) };
        writer.record(&event(wall_time(), 0, 3, b"brain.Event:2"))?;
        writer.flush()?;
        Ok(writer)
    }

    /// Opens a further event file for a run that resumes from a checkpoint at `environment_steps`: TensorBoard forgets
    /// the scalars after it, which the run will write again.
    ///
    /// # Errors
    /// [`Error::Io`] where the folder or the file cannot be made.
    pub fn resume(folder: &Path, environment_steps: u64) -> Result<Self> {
        let mut writer = Self::create(folder)?;
        let mut start = Vec::new();
        varint_field(&mut start, 1, 1);
        // TensorBoard drops the steps at and after a START.
        writer.record(&event(wall_time(), environment_steps + 1, 7, &start))?;
        writer.flush()?;
        Ok(writer)
    }

    /// Appends one scalar; `step` is the environment step. It may stay in a buffer until [`EventWriter::flush`].
    ///
    /// # Errors
    /// [`Error::Io`] where the buffer cannot be written.
    pub fn scalar(&mut self, tag: &str, step: u64, value: f64) -> Result<()> {
        self.record(&scalar_event(wall_time(), tag, step, value))
    }

    /// Hands the buffer to the system, so that TensorBoard sees it.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be written.
    pub fn flush(&mut self) -> Result<()> {
        self.file.flush().map_err(Error::io(&self.path))
    }

    /// The file that this writes.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn record(&mut self, data: &[u8]) -> Result<()> {
        self.file.write_all(&framed(data)).map_err(Error::io(&self.path))
    }
}

fn scalar_event(wall_time: f64, tag: &str, step: u64, value: f64) -> Vec<u8> {
    let mut entry = Vec::with_capacity(tag.len() + 8);
    bytes_field(&mut entry, 1, tag.as_bytes());
    entry.push(2 << 3 | 5);
    entry.extend_from_slice(&(value as f32).to_le_bytes());
    let mut summary = Vec::with_capacity(entry.len() + 2);
    bytes_field(&mut summary, 1, &entry);
    event(wall_time, step, 5, &summary)
}

/// An `Event` with one field beside its time and step; `what` is that field's number.
fn event(wall_time: f64, step: u64, what: u8, content: &[u8]) -> Vec<u8> {
    let mut data = Vec::with_capacity(content.len() + 24);
    data.push(1 << 3 | 1);
    data.extend_from_slice(&wall_time.to_le_bytes());
    varint_field(&mut data, 2, step);
    bytes_field(&mut data, what, content);
    data
}

/// A field of wire type 0. `field` is below 16, so that its key is one byte.
fn varint_field(out: &mut Vec<u8>, field: u8, value: u64) {
    out.push(field << 3);
    varint(out, value);
}

/// A field of wire type 2. `field` is below 16, so that its key is one byte.
fn bytes_field(out: &mut Vec<u8>, field: u8, content: &[u8]) {
    out.push(field << 3 | 2);
    varint(out, content.len() as u64);
    out.extend_from_slice(content);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn framed(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(data.len() + 16);
    record.extend_from_slice(&length);
    record.extend_from_slice(&masked_crc(&length).to_le_bytes());
    record.extend_from_slice(data);
    record.extend_from_slice(&masked_crc(data).to_le_bytes());
    record
}

/// TFRecord masks its sums, since a checksum of data that holds checksums is weak (`tsl/lib/hash/crc32c.h`).
fn masked_crc(data: &[u8]) -> u32 {
    crc32c(data).rotate_right(15).wrapping_add(0xA282_EAD8)
}

/// CRC-32C (Castagnoli, reflected polynomial 0x82F63B78), by table.
fn crc32c(data: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut at = 0;
        while at < 256 {
            let mut sum = at as u32;
            let mut bit = 0;
            while bit < 8 {
                sum = if sum & 1 == 1 { sum >> 1 ^ 0x82F6_3B78 } else { sum >> 1 };
                bit += 1;
            }
            table[at] = sum;
            at += 1;
        }
        table
    };
    !data.iter().fold(!0, |sum, &byte| TABLE[(sum as u8 ^ byte) as usize] ^ sum >> 8)
}

/// Seconds since 1970. A clock before that counts as 1970: a wrong time must not stop a run.
fn wall_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

/// The seconds in the name of the newest event file of a folder.
fn newest(folder: &Path) -> Result<Option<u64>> {
    let mut newest = None;
    let entries = fs::read_dir(folder).map_err(Error::io(folder))?;
    for entry in entries {
        let entry = entry.map_err(Error::io(folder))?;
        let name = entry.file_name();
        let seconds = name
            .to_str()
            .and_then(|name| name.strip_prefix(FILE_PREFIX))
            .and_then(|rest| rest.split('.').next())
            .and_then(|seconds| seconds.parse::<u64>().ok());
        newest = newest.max(seconds);
    }
    Ok(newest)
}

/// The machine's name, which is only there to tell files apart.
fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String =
        name.trim().chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')).collect();
    if name.is_empty() { "localhost".to_string() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes a file apart into the data of its records, and checks both sums of each.
    fn records(mut bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut records = Vec::new();
        while !bytes.is_empty() {
            let (length, rest) = bytes.split_at(8);
            let (length_crc, rest) = rest.split_at(4);
            assert_eq!(length_crc, masked_crc(length).to_le_bytes());
            let (data, rest) = rest.split_at(u64::from_le_bytes(length.try_into().unwrap()) as usize);
            let (data_crc, rest) = rest.split_at(4);
            assert_eq!(data_crc, masked_crc(data).to_le_bytes());
            records.push(data.to_vec());
            bytes = rest;
        }
        records
    }

    #[test]
    fn crc32c_agrees_with_its_published_values() {
        // RFC 3720, appendix B.4, and the usual check value.
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
        assert_eq!(crc32c(&[0xFF; 32]), 0x62A8_AB43);
    }

    #[test]
    fn a_scalar_is_written_as_tensorboard_reads_it() {
        // These bytes were read back by TensorBoard's own reader (2.21): step 300, tag "loss", value 0.25.
        let data = scalar_event(1.5, "loss", 300, 0.25);
        let expected = [
            &[0x09, 0, 0, 0, 0, 0, 0, 0xF8, 0x3F][..], // wall_time = 1.5
            &[0x10, 0xAC, 0x02],                       // step = 300
            &[0x2A, 0x0D, 0x0A, 0x0B],                 // summary { value {
            &[0x0A, 0x04, b'l', b'o', b's', b's'],     // tag = "loss"
            &[0x15, 0, 0, 0x80, 0x3E],                 // simple_value = 0.25
        ]
        .concat();
        assert_eq!(data, expected);
    }

    #[test]
    fn a_file_begins_with_its_version_and_holds_every_scalar() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("tensorboard");
        let mut writer = EventWriter::create(&folder).unwrap();
        for step in 0..3 {
            writer.scalar("train/loss", step * 1000, 0.5).unwrap();
        }
        writer.flush().unwrap();
        let records = records(&fs::read(writer.path()).unwrap());
        assert_eq!(records.len(), 4);
        assert!(records[0].ends_with(b"\x1A\x0Dbrain.Event:2"));
        assert!(records[3].windows(10).any(|window| window == b"train/loss"));
    }

    #[test]
    fn a_resumed_run_opens_a_later_file_that_begins_with_a_start() {
        let folder = tempfile::tempdir().unwrap();
        let first = EventWriter::create(folder.path()).unwrap();
        let second = EventWriter::resume(folder.path(), 127).unwrap();
        assert!(second.path() > first.path());
        let records = records(&fs::read(second.path()).unwrap());
        assert_eq!(records.len(), 2);
        // step = 128, session_log { status = START }
        assert!(records[1].ends_with(&[0x10, 0x80, 0x01, 0x3A, 0x02, 0x08, 0x01]));
    }
}
