use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use ::parquet::arrow::ArrowWriter;
use arrow_array::{
    ArrayRef, BooleanArray, Float32Array, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, TimestampNanosecondArray, TimestampSecondArray, UInt32Array,
};
use tempfile::TempDir;

use super::*;
use crate::market::bar::{Bar, MINUTE_MILLIS};
use crate::market::real_bars::real_bars;
use crate::market::resample::resample;

mod kinds_of_files;

const HEADER: &str = "timestamp,open,high,low,close,volume\n";
const FIRST_MILLIS: i64 = 1_577_836_800_000;

fn write(name: &str, content: impl AsRef<[u8]>) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    (folder, path)
}

fn import_text(content: impl AsRef<[u8]>, options: &SourceOptions) -> Result<Imported> {
    let (_folder, path) = write("bars.csv", content);
    import_one(&path, options)
}

fn import_one(path: &Path, options: &SourceOptions) -> Result<Imported> {
    let mut imported = import(&Source { path: path.to_path_buf(), options: options.clone() })?;
    assert_eq!(imported.len(), 1, "one instrument");
    Ok(imported.remove(0))
}

/// The refusal of a file, from its name on: `bars.csv:3: …`.
fn refusal(content: impl AsRef<[u8]>) -> String {
    let error = import_text(content, &SourceOptions::default()).unwrap_err();
    assert!(error.is_usage(), "{error}");
    let text = error.to_string();
    assert!(!text.contains('\n'), "one line: {text}");
    text[text.find("bars.csv").unwrap()..].to_owned()
}

fn check_refused(content: impl AsRef<[u8]>, start: &str, way_out: &str) {
    let text = refusal(content);
    assert!(text.starts_with(start) && text.contains(way_out), "{text}");
}

fn rows(rows: &[&str]) -> String {
    format!("{HEADER}{}\n", rows.join("\n"))
}

fn told(format: Option<&str>, zone: Option<&str>, label: Option<Label>) -> SourceOptions {
    SourceOptions {
        time_format: format.map(str::to_owned),
        zone: zone.map(str::to_owned),
        label,
        ..SourceOptions::default()
    }
}

const GOOD: [&str; 3] = [
    "2020-01-01 00:00:00,10,12,9,11,5",
    "2020-01-01 00:01:00,11,11.5,10,10.5,0",
    "2020-01-01 00:05:00,10.5,13,10.5,13,2.5",
];

#[test]
fn bars_are_taken_as_written_and_what_was_taken_is_said() {
    let imported = import_text(rows(&GOOD), &SourceOptions::default()).unwrap();
    let BarSeries { name, width_millis, bars } = imported.bars;
    assert_eq!((name.as_str(), width_millis, bars.len()), ("bars", MINUTE_MILLIS, 3));
    let expected = Bar {
        open_millis: FIRST_MILLIS + 5 * MINUTE_MILLIS,
        close_millis: FIRST_MILLIS + 6 * MINUTE_MILLIS,
        open: 10.5,
        high: 13.0,
        low: 10.5,
        close: 13.0,
        volume: 2.5,
    };
    assert_eq!(bars[2], expected);
    assert_eq!(
        imported.notes,
        [
            "columns: timestamp = `timestamp`, open = `open`, high = `high`, low = `low`, close = `close`, \
             volume = `volume`",
            "stamps such as `2020-01-01 00:00:00` taken as ISO 8601",
            "they name no zone: taken as UTC",
            "stamps taken as the start of their bar (if they mark the end: data.label = \"end\")",
            "3 bars of 1 min, from 2020-01-01T00:00:00Z to 2020-01-01T00:06:00Z",
            "1 gap, kept as such; the longest is 3 min from 2020-01-01T00:02:00Z",
            "1 bars without volume",
        ]
    );
}

#[test]
fn a_stamp_marks_the_end_only_if_told() {
    let start = import_text(rows(&GOOD), &told(None, None, Some(Label::Start))).unwrap();
    let end = import_text(rows(&GOOD), &told(None, None, Some(Label::End))).unwrap();
    for (start, end) in start.bars.bars.iter().zip(&end.bars.bars) {
        assert_eq!(end.close_millis, start.open_millis);
        assert_eq!(end.open_millis, start.open_millis - MINUTE_MILLIS);
    }
}

#[test]
fn semicolons_tabs_windows_line_ends_and_a_byte_order_mark_change_nothing() {
    let plain = import_text(rows(&GOOD), &SourceOptions::default()).unwrap();
    let text = rows(&GOOD);
    for other in [
        text.replace(',', ";"),
        text.replace(',', "\t"),
        text.replace('\n', "\r\n"),
        format!("\u{feff}{text}"),
        text.replace(',', " , "),
        format!("{text}\n\n"),
    ] {
        assert_eq!(import_text(&other, &SourceOptions::default()).unwrap().bars, plain.bars);
    }
}

#[test]
fn numbers_that_are_no_bars_are_refused_with_their_line() {
    for (numbers, problem) in [
        ("11,9,10,10,5", "`high` 9 is below `low` 10"),
        ("13,12,9,11,5", "`open` 13 is outside"),
        ("10,12,9,8.5,5", "`close` 8.5 is outside"),
        ("0,12,0,11,5", "`open` is 0"),
        ("10,12,-9,11,5", "`low` is -9"),
        ("10,NaN,9,11,5", "`high` is NaN"),
        ("10,inf,9,11,5", "`high` is inf"),
        ("10,12,9,11,-5", "`volume` is -5"),
        ("10,12,9,11,", "`volume` is empty"),
        ("10,12,9,eleven,5", "`close` is `eleven`, which is no number"),
        ("10,12,9,\"1x1,5\",5", "`close` is `1x1,5`, which is no number"),
        ("10,12,9,11", "has 5 columns where the header has 6"),
        ("10,12,9,11,5,6", "has 7 columns where the header has 6"),
    ] {
        let content = rows(&[GOOD[0], &format!("2020-01-01 00:01:00,{numbers}"), GOOD[2]]);
        check_refused(&content, &format!("bars.csv:3: {problem}"), "");
        check_refused(content.replace('\n', "\r\n"), &format!("bars.csv:3: {problem}"), "");
    }
}

#[test]
fn a_fault_after_blank_lines_is_named_by_the_line_an_editor_shows() {
    let content = format!("{HEADER}{}\n\n\n2020-01-01 00:01:00,1,1,1,x,1\n", GOOD[0]);
    check_refused(&content, "bars.csv:5: ", "");
    check_refused(content.replace('\n', "\r\n"), "bars.csv:5: ", "");
}

#[test]
fn time_must_run_forward_without_duplicates() {
    check_refused(
        rows(&[GOOD[1], GOOD[0], GOOD[2]]),
        "bars.csv:3: time runs backward: 2020-01-01T00:00:00Z",
        "1 of 3 rows cannot be used: 1 out of the order of time (line 3)",
    );
    check_refused(rows(&[GOOD[0], GOOD[1], GOOD[1]]), "bars.csv:4: duplicate stamp", "line 3 too");
}

#[test]
fn mixed_and_foreign_spellings_are_refused_with_the_way_to_tell_them() {
    let iso_then_day_first = rows(&[GOOD[0], "01/01/2020 00:01,1,1,1,1,1"]);
    check_refused(iso_then_day_first, "bars.csv:3: mixed spellings", "%Y-%m-%d %H:%M:%S|%d/%m/%Y %H:%M'");
    let day_first = rows(&["29/06/2020 01:00:00,1,1,1,1,1"]);
    check_refused(
        &day_first,
        "bars.csv:2: the stamp `29/06/2020 01:00:00`",
        "zone=UTC&time_format=%d/%m/%Y %H:%M:%S'",
    );
    check_refused(rows(&["20200629,1,1,1,1,1"]), "bars.csv:2: the stamp `20200629`", "time_format=%Y%m%d'");
}

#[test]
fn files_that_hold_no_bars_are_refused() {
    check_refused("", "bars.csv: the file is empty", "expected a header");
    check_refused("\n\n", "bars.csv: the file is empty", "");
    check_refused(HEADER, "bars.csv: holds a header and no bars", "");
    check_refused(HEADER.trim_end(), "bars.csv: holds a header and no bars", "");
    check_refused(rows(&GOOD[..1]), "bars.csv: holds one bar", "fewer than two");
    check_refused(
        rows(&GOOD).replace("low", "Llow"),
        "bars.csv: no column for `low`; `Llow` looks near",
        "columns=low:Llow",
    );
    check_refused(
        "2020-01-01,1,1,1,1,1\n",
        "bars.csv: its first line holds numbers",
        "header=timestamp,open",
    );
    check_refused(b"\x1f\x8b\x08\x00", "bars.csv: cannot be read to its end", "etch it again");
    check_refused(b"PK\x03\x04", "bars.csv: the file is an archive", "unpack");
    check_refused(b"timestamp,open\xff\xfe", "bars.csv:1: is not UTF-8", "save it as UTF-8");
    let latin1 = [rows(&GOOD[..2]).as_bytes(), b"2020-01-01 00:02,1,1,1,\xe9,1\n"].concat();
    check_refused(latin1, "bars.csv:4: is not UTF-8", "");
    check_refused(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "bars.csv", "");
}

#[test]
fn paths_that_are_no_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let error = import_one(folder.path(), &SourceOptions::default()).unwrap_err();
    assert!(error.is_usage() && error.to_string().contains("is a folder"), "{error}");
    let error = import_one(&folder.path().join("none.csv"), &SourceOptions::default()).unwrap_err();
    assert!(error.is_usage() && error.to_string().contains("no such file"), "{error}");
}

#[test]
fn bars_of_two_widths_or_off_the_grid_are_refused() {
    let row = |time: &str| format!("2020-01-01 {time},1,1,1,1,1");
    let check = |times: &[&str], start: &str| {
        let lines: Vec<String> = times.iter().map(|time| row(time)).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        check_refused(rows(&lines), start, "");
    };
    check(
        &["00:00:00", "00:05:00", "00:10:00", "00:11:00"],
        "bars.csv:5: 2020-01-01T00:11:00Z comes 1 min after",
    );
    check(
        &["00:00:00", "00:01:00", "00:02:00", "00:03:30"],
        "bars.csv:5: 2020-01-01T00:03:30Z comes 1 min 30 s",
    );
    check(&["00:00:00", "00:00:30", "00:01:00"], "bars.csv: its bars are 30 s wide");
}

#[test]
fn the_decision_clock_takes_bars_whose_width_divides_five_minutes() {
    let path = Path::new("bars.csv");
    let of = |width: i64, first: i64| {
        let bar = |i: i64| Bar {
            open_millis: first + i * width,
            close_millis: first + (i + 1) * width,
            open: 1.0,
            high: 1.0,
            low: 1.0,
            close: 1.0,
            volume: 0.0,
        };
        BarSeries { name: "bars".to_owned(), width_millis: width, bars: (0..3).map(bar).collect() }
    };
    for minutes in [1, 5] {
        require_decision_clock(path, &of(minutes * MINUTE_MILLIS, FIRST_MILLIS)).unwrap();
    }
    for (minutes, named) in [(2, "2 min"), (30, "30 min"), (60, "1 h"), (1440, "1 d")] {
        let error = require_decision_clock(path, &of(minutes * MINUTE_MILLIS, 0)).unwrap_err().to_string();
        assert!(
            error.contains(&format!("{named} wide")) && error.contains("give 1-minute or 5-minute"),
            "{error}"
        );
    }
    let error =
        require_decision_clock(path, &of(5 * MINUTE_MILLIS, 2 * MINUTE_MILLIS)).unwrap_err().to_string();
    assert!(error.contains("begin 2 min past"), "{error}");
}

fn parquet_bytes(columns: &[(&str, ArrayRef)]) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter(columns.iter().cloned()).unwrap();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

/// The columns of a Parquet file with the given stamps, three rows.
fn table(stamps: ArrayRef) -> Vec<(&'static str, ArrayRef)> {
    vec![
        ("Volume", Arc::new(UInt32Array::from(vec![5, 0, 2])) as ArrayRef),
        ("note", Arc::new(StringArray::from(vec!["a", "b", "c"]))),
        ("Close", Arc::new(Float32Array::from(vec![11.0, 10.5, 13.0]))),
        ("Low", Arc::new(Float64Array::from(vec![9.0, 10.0, 10.5]))),
        ("High", Arc::new(Int64Array::from(vec![12, 12, 13]))),
        ("Open", Arc::new(Float64Array::from(vec![10.0, 11.0, 10.5]))),
        ("Date", stamps),
    ]
}

const SECONDS: [i64; 3] = [FIRST_MILLIS / 1000, FIRST_MILLIS / 1000 + 60, FIRST_MILLIS / 1000 + 300];

#[test]
fn parquet_is_read_whatever_the_types_of_its_numbers_and_stamps() {
    let scaled = |factor: i64| SECONDS.map(|s| s * factor).to_vec();
    let text = |text: [&str; 3]| Arc::new(StringArray::from(text.to_vec())) as ArrayRef;
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(TimestampSecondArray::from(scaled(1))),
        Arc::new(TimestampMicrosecondArray::from(scaled(1_000_000)).with_timezone("UTC")),
        Arc::new(TimestampNanosecondArray::from(scaled(1_000_000_000)).with_timezone("+02:00")),
        Arc::new(Int64Array::from(scaled(1_000))),
        text(["2020-01-01T00:00", "2020-01-01T00:01", "2020-01-01T00:05"]),
        text(["2020-01-01 01:00:00+01:00", "2020-01-01 01:01:00+01:00", "2020-01-01 01:05:00+01:00"]),
    ];
    for stamps in arrays {
        let data_type = stamps.data_type().clone();
        let (_folder, path) = write("bars.parquet", parquet_bytes(&table(stamps)));
        let imported = import_one(&path, &SourceOptions::default()).unwrap();
        let bars = &imported.bars.bars;
        let opens: Vec<i64> = bars.iter().map(|bar| bar.open_millis / 1000).collect();
        assert_eq!(opens, SECONDS, "{data_type}");
        assert_eq!((bars[2].open, bars[2].high, bars[2].low, bars[2].close), (10.5, 13.0, 10.5, 13.0));
        assert_eq!((bars[0].volume, bars[1].volume), (5.0, 0.0));
        assert!(imported.notes[0].ends_with("; not read: `note`"), "{}", imported.notes[0]);
    }
}

#[test]
fn parquet_stamps_without_a_zone_are_in_the_told_one() {
    let stamps = Arc::new(TimestampSecondArray::from(SECONDS.to_vec()));
    let (_folder, path) = write("bars.parquet", parquet_bytes(&table(stamps)));
    let imported = import_one(&path, &told(None, Some("Asia/Tokyo"), None)).unwrap();
    assert_eq!(imported.bars.bars[0].open_millis, FIRST_MILLIS - 9 * 60 * MINUTE_MILLIS);
}

#[test]
fn parquet_stamps_off_by_less_than_a_millisecond_are_rounded_and_told() {
    let nanos = SECONDS.map(|second| second * 1_000_000_000 + 128);
    let stamps = Arc::new(TimestampNanosecondArray::from(nanos.to_vec()));
    let (_folder, path) = write("bars.parquet", parquet_bytes(&table(stamps)));
    let imported = import_one(&path, &SourceOptions::default()).unwrap();
    let opens: Vec<i64> = imported.bars.bars.iter().map(|bar| bar.open_millis).collect();
    assert_eq!(opens, SECONDS.map(|second| second * 1000));
    assert!(imported.notes.iter().any(|note| note.starts_with("3 stamps are finer")), "{:?}", imported.notes);
}

#[test]
fn parquet_faults_are_refused_with_their_row() {
    let stamps = || Arc::new(TimestampSecondArray::from(SECONDS.to_vec())) as ArrayRef;
    let check = |columns: &[(&str, ArrayRef)], expected: &str| {
        let (_folder, path) = write("bars.parquet", parquet_bytes(columns));
        let error = import_one(&path, &SourceOptions::default()).unwrap_err();
        assert!(error.is_usage() && error.to_string().contains(expected), "{error}");
    };
    let with = |place: usize, name: &'static str, array: ArrayRef| {
        let mut columns = table(stamps());
        columns[place] = (name, array);
        columns
    };
    check(
        &with(5, "Open", Arc::new(BooleanArray::from(vec![true, false, true]))),
        "bars.parquet: column `Open` is of type Boolean, not a number",
    );
    check(
        &with(5, "Open", Arc::new(StringArray::from(vec!["10", "11", "ten"]))),
        "bars.parquet:3: `Open` is `ten`, which is no number",
    );
    check(
        &with(5, "Open", Arc::new(Float64Array::from(vec![Some(10.0), None, Some(10.5)]))),
        "bars.parquet:2: `Open` is empty",
    );
    check(&with(3, "Llow", Arc::new(Float64Array::from(vec![9.0; 3]))), "`Llow` looks near");
    check(
        &with(2, "Close", Arc::new(Float64Array::from(vec![11.0, f64::NAN, 13.0]))),
        "bars.parquet:2: `Close` is NaN",
    );
    check(&with(6, "Date", Arc::new(Float64Array::from(vec![0.0; 3]))), "column `Date` is of type Float64");
    check(
        &with(6, "Date", Arc::new(TimestampSecondArray::from(vec![Some(SECONDS[0]), None, None]))),
        "bars.parquet:2: the stamp is empty",
    );
    let empty: Vec<(&str, ArrayRef)> = table(stamps()).into_iter().map(|(n, a)| (n, a.slice(0, 0))).collect();
    check(&empty, "bars.parquet: holds a header and no bars");
}

#[test]
fn a_parquet_file_cut_off_anywhere_is_refused() {
    let bytes = parquet_bytes(&table(Arc::new(TimestampSecondArray::from(SECONDS.to_vec()))));
    for n in 0..bytes.len() {
        let (_folder, path) = write("bars.parquet", &bytes[..n]);
        let error = import_one(&path, &SourceOptions::default()).unwrap_err();
        assert!(error.is_usage(), "{n}: {error}");
        let text = error.to_string();
        assert!(text.contains("bars.parquet: ") && !text.contains('\n'), "{n}: {text}");
        assert!(text.contains("etch it again") || text.contains("is empty"), "{n}: {text}");
    }
}

#[test]
fn a_parquet_file_damaged_anywhere_is_refused_or_read_and_never_panics() {
    let bytes = parquet_bytes(&table(Arc::new(TimestampSecondArray::from(SECONDS.to_vec()))));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bars.parquet");
    for place in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[place] ^= 1 << (place % 8);
        fs::write(&path, &damaged).unwrap();
        if let Err(error) = import_one(&path, &SourceOptions::default()) {
            assert!(error.is_usage() && !error.to_string().contains('\n'), "{place}: {error}");
        }
    }
}

#[test]
fn real_minute_bars_are_imported_and_resampled() {
    let Some(folder) = real_bars() else { return };
    let end = told(None, None, Some(Label::End));
    for (name, n_bars, gaps) in [("btc_perp_1m.csv", 45_031, "no gaps"), ("6eh4_1m.csv", 29_996, "375 gaps")]
    {
        let path = folder.join(name);
        let imported = import_one(&path, &end).unwrap();
        let BarSeries { width_millis, bars, .. } = &imported.bars;
        assert_eq!((*width_millis, bars.len()), (MINUTE_MILLIS, n_bars), "{name}");
        assert!(imported.notes.iter().any(|note| note.starts_with(gaps)), "{name}: {:?}", imported.notes);
        assert_eq!(bars[0].open_millis % (60 * MINUTE_MILLIS), 0, "the future reopens at 23:00");
        require_decision_clock(&path, &imported.bars).unwrap();
        let five = resample(bars, 5 * MINUTE_MILLIS);
        let thirty = resample(&five, 30 * MINUTE_MILLIS);
        assert!(five.len() * 5 >= n_bars - 4 && thirty.len() * 30 >= n_bars - 29, "{name}");
        let unlabelled = import_one(&path, &SourceOptions::default()).unwrap();
        assert_eq!(unlabelled.bars.bars[0].open_millis, bars[0].close_millis);
    }
}

#[test]
fn real_five_minute_bars_are_imported() {
    let Some(folder) = real_bars() else { return };
    let mut n_files = 0;
    for entry in fs::read_dir(folder.join("crypto_5m")).unwrap() {
        let path = entry.unwrap().path();
        let imported = import_one(&path, &SourceOptions::default()).unwrap();
        require_decision_clock(&path, &imported.bars).unwrap();
        assert!((5_720..=5_760).contains(&imported.bars.bars.len()), "{}", path.display());
        n_files += 1;
    }
    assert_eq!(n_files, 10);
}

#[test]
fn real_bars_of_mixed_spelling_are_refused_untold_and_imported_whole_told() {
    let Some(folder) = real_bars() else { return };
    let path = folder.join("nq_30m_mixed_dates.csv");
    let error = import_one(&path, &SourceOptions::default()).unwrap_err().to_string();
    assert!(error.contains("nq_30m_mixed_dates.csv:2: the stamp `29/06/2020 01:00:00`"), "{error}");
    let one = told(Some("%d/%m/%Y %H:%M:%S"), Some("Asia/Jerusalem"), None);
    let error = import_one(&path, &one).unwrap_err().to_string();
    assert!(error.contains("%d/%m/%Y %H:%M:%S|%d/%m/%Y %H:%M'"), "{error}");
    let both = told(Some("%d/%m/%Y %H:%M:%S|%d/%m/%Y %H:%M"), Some("Asia/Jerusalem"), None);
    let imported = import_one(&path, &both).unwrap();
    assert_eq!(imported.bars.bars.len(), 56_083);
    assert_eq!(imported.bars.width_millis, 30 * MINUTE_MILLIS);
    assert_eq!(check::moment(imported.bars.bars[0].open_millis), "2020-06-28T22:00:00Z");
    assert_eq!(check::moment(imported.bars.bars[56_082].open_millis), "2025-07-02T07:00:00Z");
    let error = require_decision_clock(&path, &imported.bars).unwrap_err().to_string();
    assert!(error.contains("30 min wide") && error.contains("1-minute or 5-minute"), "{error}");
}
