//! What a refusal says to type reads the file.

use std::fs;
use std::path::Path;

use crate::market::bar::{Bar, MINUTE_MILLIS};
use crate::market::import::market_files::market_files;
use crate::market::import::{Imported, Missing, Source, import};

/// 4 March 2024, 9:30 UTC.
const FIRST_MILLIS: i64 = 1_709_544_600_000;
const N_ROWS: i64 = 6;
const HEADER: &str = "timestamp,open,high,low,close,volume";

/// A file of rows five minutes apart, stamped as strftime's letters say.
fn stamped(format: &str) -> String {
    let row = |i: i64| {
        let instant = jiff::Timestamp::from_millisecond(FIRST_MILLIS + i * 5 * MINUTE_MILLIS).unwrap();
        format!("\"{}\",101,102,100,101,5", instant.to_zoned(jiff::tz::TimeZone::UTC).strftime(format))
    };
    let rows: Vec<String> = (0..N_ROWS).map(row).collect();
    format!("{HEADER}\n{}\n", rows.join("\n"))
}

/// A file of rows with these numbers, a minute apart.
fn numbered(numbers: &[&str]) -> String {
    let row = |(i, numbers): (usize, &&str)| format!("2024-03-04 09:3{i};{numbers}");
    let rows: Vec<String> = numbers.iter().enumerate().map(row).collect();
    format!("{}\n{}\n", HEADER.replace(',', ";"), rows.join("\n"))
}

/// The files that leave something to be told, with what the user has told already.
fn refused_files() -> Vec<(String, &'static str)> {
    let mut files: Vec<(String, &str)> = [
        "%Y%m%d%H%M%S",
        "%Y%m%d%H%M",
        "%Y%m%d %H%M%S",
        "%Y%m%d-%H:%M:%S",
        "%d-%b-%Y %H:%M",
        "%d%b%Y %-H:%M",
        "%B %-d, %Y %-I:%M %p",
        "%A, %d %B %Y %H:%M:%S",
        "%Y-%m-%d %-H:%M",
        "%Y/%m/%d %H:%M:%S.000",
        "%Y-%m-%d %-I:%M:%S %p",
        "%Y-%m-%d %H:%M EST",
        "%Y-%m-%d %H:%M:%S:000",
        "%-m/%-d/%Y %-I:%M %p",
        "%d/%m/%Y %H:%M",
        "%d-%m-%y %H:%M",
        "%m%d%y %H%M",
    ]
    .into_iter()
    .map(|format| (stamped(format), ""))
    .collect();
    files.push((stamped("%Y-%m-%d %H:%M") + "2024-03-04T10:00,101,102,100,101,5\n", ""));
    files.push((stamped("%Y-%m-%d %H:%M:%S") + "4/3/2024 10:00,101,102,100,101,5\n", ""));
    files.push((stamped("%d/%m/%Y %H:%M"), "?zone=Asia/Tokyo&time_format=%d.%m.%Y %H:%M"));
    files.push((stamped("%-d/%-m/%Y %H:%M"), "?label=end"));
    files.push((
        numbered(&["1,100;1,200;1,050;1,150;7", "1,150;1,250;1,050;1,150;7", "1,150;1,250;1,050;1,150;7"]),
        "",
    ));
    files.push((
        numbered(&["101;102;100;101;5", "NaN;NaN;NaN;NaN;NaN", "101;102;100;101;5", "101;102;100;101;5"]),
        "",
    ));
    files
}

/// Bars for the files of vendors, which are refused where they need telling.
fn bars() -> Vec<Bar> {
    let bar = |i: i64| {
        let open_millis = FIRST_MILLIS + i * 5 * MINUTE_MILLIS;
        let close_millis = open_millis + 5 * MINUTE_MILLIS;
        Bar { open_millis, close_millis, open: 101.5, high: 102.25, low: 100.5, close: 101.25, volume: 5.0 }
    };
    (0..N_ROWS).map(bar).collect()
}

/// The sources that a message says to type.
fn suggestions(message: &str, source: &Source) -> Vec<Source> {
    let typed = message.split("--data '").skip(1).map(|rest| &rest[..rest.find('\'').unwrap()]);
    let mut sources: Vec<Source> = typed.map(|typed| Source::from_text(Path::new(typed)).unwrap()).collect();
    for set in message.split("--set ").skip(1) {
        let set = set.split([' ', ';', ',']).next().unwrap();
        assert_eq!(set, "data.missing=drop", "this test knows how to follow it");
        let mut told = source.clone();
        told.options.missing = Some(Missing::Drop);
        sources.push(told);
    }
    sources
}

fn follow(name: &str, content: &[u8], told: &str) -> Vec<Vec<Imported>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    let source = Source::from_text(Path::new(&format!("{}{told}", path.display()))).unwrap();
    let message = import(&source).unwrap_err().to_string();
    let sources = suggestions(&message, &source);
    assert!(!sources.is_empty(), "no way out: {message}");
    let read = |told: &Source| import(told).unwrap_or_else(|error| panic!("{message}\n, followed: {error}"));
    sources.iter().map(read).collect()
}

#[test]
fn every_suggestion_of_a_refusal_reads_the_file_when_it_is_followed() {
    for (content, told) in refused_files() {
        for imported in follow("bars.csv", content.as_bytes(), told) {
            let n_bars = imported[0].bars.bars.len();
            let n_rows = content.lines().count() - 1;
            assert_eq!(n_bars, n_rows - usize::from(content.contains("NaN")), "{content}");
        }
    }
}

#[test]
fn every_suggestion_for_a_vendors_file_that_needs_telling_reads_it() {
    let bars = bars();
    for file in market_files(&bars).into_iter().filter(|file| !file.told.is_empty()) {
        let read = follow(file.name, &file.bytes, "");
        assert!(read.iter().all(|imported| imported[0].bars.bars.len() == bars.len()), "{}", file.name);
        let opens = |imported: &[Imported]| imported[0].bars.bars[0].open_millis;
        let is_right = read.iter().any(|imported| opens(imported) == bars[0].open_millis);
        // The zone of a file that names none is the user's to know.
        assert!(is_right || file.told.contains("zone=Asia"), "{}", file.name);
    }
}
