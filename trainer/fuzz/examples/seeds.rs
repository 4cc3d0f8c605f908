//! Writes the seed corpora, a few bars in every spelling that is known: `cargo run --example seeds seeds`.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow_ipc::writer::FileWriter;
use flate2::Compression;
use flate2::write::GzEncoder;
use parquet::arrow::ArrowWriter;

use trainer_fuzz::market::bar::Bar;
use trainer_fuzz::{spelled, vendors_files};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let folder = std::env::args().nth(1).ok_or("which folder?")?;
    let (texts, files) = (Path::new(&folder).join("csv_text"), Path::new(&folder).join("import_file"));
    fs::create_dir_all(&texts)?;
    fs::create_dir_all(&files)?;
    let bars = bars();
    for seed in vendors_files(&bars) {
        fs::write(texts.join(&seed.name), [seed.told.as_bytes(), b"\n", &seed.content].concat())?;
        if seed.told.is_empty() {
            fs::write(files.join(&seed.name), &seed.content)?;
        }
    }
    for (i, format) in FORMATS.iter().enumerate() {
        let content = spelled(&bars, format);
        fs::write(texts.join(format!("stamps-{i:02}")), [b"decimal=point\n", &content[..]].concat())?;
    }
    for (i, text) in TEXTS.iter().enumerate() {
        fs::write(texts.join(format!("text-{i:02}")), text)?;
    }
    let columns = columns(&bars);
    let batch = RecordBatch::try_from_iter(columns)?;
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None)?;
    writer.write(&batch)?;
    writer.close()?;
    fs::write(files.join("parquet"), bytes)?;
    let mut bytes = Vec::new();
    let mut writer = FileWriter::try_new(&mut bytes, &batch.schema())?;
    writer.write(&batch)?;
    writer.finish()?;
    drop(writer);
    fs::write(files.join("feather"), bytes)?;
    let text = spelled(&bars, "%Y-%m-%dT%H:%M:%SZ");
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&text)?;
    fs::write(files.join("gz"), encoder.finish()?)?;
    fs::write(files.join("zst"), zstd::bulk::compress(&text, 3)?)?;
    let object = |b: &Bar| {
        format!(
            "{{\"t\": {}, \"o\": {}, \"h\": {}, \"l\": {}, \"c\": {}, \"v\": {}}}\n",
            b.open_millis, b.open, b.high, b.low, b.close, b.volume
        )
    };
    fs::write(files.join("json-lines"), bars.iter().map(object).collect::<String>())?;
    Ok(())
}

/// Spellings of stamps that no vendor of the table has.
const FORMATS: [&str; 8] = [
    "%Y%m%d%H%M%S",
    "%d-%b-%Y %-H:%M",
    "%B %-d %Y %-I:%M %p",
    "%-m/%-d/%Y %-I:%M %p",
    "%d-%m-%y %H:%M",
    "%Y-%m-%d %H:%M EST",
    "%Y%m%d %H:%M:%S US/Eastern",
    "%a %d %b %Y %H:%M:%S GMT",
];

/// Texts with what may be wrong with them.
const TEXTS: [&str; 6] = [
    "missing=drop\ntimestamp,open,high,low,close,volume\n2024-03-04 10:00,1,2,1,1,5\n2024-03-04 10:01,NaN,,null,-,\n\
     2024-03-04 10:02,1,2,1,1,5\n2024-03-04 10:03,1,2,1,1,5\n",
    "label=end&decimal=comma\nDate;Open;High;Low;Close\n04.03.2024 10:00;1.234,5;1.240,5;1.200,5;1.234,5\n\
     04.03.2024 10:01;1.234,5;1.240,5;1.200,5;1.234,5\n",
    "zone=America/New_York\ntimestamp,open,high,low,close,volume\n2024-11-03 01:30,1,2,1,1,5\n\
     2024-11-03 01:00,1,2,1,1,5\n2024-11-03 01:30,1,2,1,1,5\n",
    "header=timestamp,open,high,low,close,volume&skip_rows=1\nnote\n1709546400,1,2,1,1,5\n1709546460,1,2,1,1,5\n",
    "columns=close:Last,volume:Lots\ntimestamp,open,high,low,Last,Lots\n2024-03-04,1,2,1,1,5\n2024-03-05,1,2,1,1,5\n",
    "time_format=%d/%m/%Y %H:%M:%S|%d/%m/%Y %H:%M&zone=Asia/Jerusalem\nsymbol,timestamp,open,high,low,close,volume\n\
     A,29/06/2020 01:00:00,1,2,1,1,\"1,000\"\nB,29/06/2020 01:00:00,1,2,1,1,5\nA,29/6/2020 1:05,1,2,1,1,5\n\
     B,29/6/2020 1:05,1,2,1,1,5\n",
];

fn bars() -> Vec<Bar> {
    let bar = |i: i64| {
        let open_millis = 1_709_544_600_000 + i * 60_000;
        let close_millis = open_millis + 60_000;
        Bar { open_millis, close_millis, open: 101.5, high: 102.25, low: 100.5, close: 101.25, volume: 5.0 }
    };
    (0..4).map(bar).collect()
}

fn columns(bars: &[Bar]) -> Vec<(&'static str, ArrayRef)> {
    let stamps = TimestampMillisecondArray::from_iter_values(bars.iter().map(|b| b.open_millis));
    let numbers =
        |of: fn(&Bar) -> f64| Arc::new(Float64Array::from_iter_values(bars.iter().map(of))) as ArrayRef;
    let texts = StringArray::from_iter_values(bars.iter().map(|b| b.close.to_string()));
    vec![
        ("date", Arc::new(stamps.with_timezone("UTC")) as ArrayRef),
        ("open", numbers(|b| b.open)),
        ("high", numbers(|b| b.high)),
        ("low", numbers(|b| b.low)),
        ("close", Arc::new(texts)),
        ("volume", numbers(|b| b.volume)),
    ]
}
