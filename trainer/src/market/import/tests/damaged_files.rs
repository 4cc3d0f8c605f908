//! A damaged file is refused or read: it neither panics nor takes bytes that are not there.

use std::fs;
use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, RecordBatch, TimestampMillisecondArray};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{FileWriter, IpcWriteOptions};

use crate::market::import::{Source, import};

fn feather(compression: Option<CompressionType>) -> Vec<u8> {
    let stamps = TimestampMillisecondArray::from_iter_values((0..8).map(|i| 1_709_544_600_000 + i * 60_000));
    let prices = Arc::new(Float64Array::from(vec![101.5; 8])) as ArrayRef;
    let columns = ["open", "high", "low", "close", "volume"].map(|name| (name, prices.clone()));
    let columns = [("date", Arc::new(stamps.with_timezone("UTC")) as ArrayRef)].into_iter().chain(columns);
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let options = IpcWriteOptions::default().try_with_compression(compression).unwrap();
    let mut writer = FileWriter::try_new_with_options(Vec::new(), &batch.schema(), options).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

#[test]
fn a_feather_file_damaged_anywhere_is_refused_or_read_and_never_takes_what_it_claims() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bars.feather");
    let source = Source::from_text(&path).unwrap();
    for compression in [None, Some(CompressionType::LZ4_FRAME), Some(CompressionType::ZSTD)] {
        let bytes = feather(compression);
        fs::write(&path, &bytes).unwrap();
        assert_eq!(import(&source).unwrap()[0].bars.bars.len(), 8);
        for place in 8..bytes.len() {
            for damage in [bytes[place] ^ (1 << (place % 8)), 0xff, 0x7f] {
                let mut damaged = bytes.clone();
                damaged[place] = damage;
                fs::write(&path, &damaged).unwrap();
                if let Err(error) = import(&source) {
                    assert!(error.is_usage() && !error.to_string().contains('\n'), "{place}: {error}");
                }
            }
        }
    }
}
