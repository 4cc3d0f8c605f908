//! Files of bars as vendors and tools write them are read at the first try, or after the one setting that the refusal
//! names: every setting that is printed reads the file when it is followed.

use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;
use tests::{read_json, root, run, skip};

/// What a file must give.
enum Gives {
    /// It is read at once: the number of bars, the first bar's open in milliseconds, each instrument's name (none: the
    /// file's), and words that are said.
    Read(usize, i64, &'static [&'static str], &'static [&'static str]),
    /// It is refused with these words, and every setting that is printed reads so many bars, which begin at one of
    /// these moments.
    Refused(&'static [&'static str], usize, &'static [i64]),
}

use Gives::{Read, Refused};

const NEW_YEAR: i64 = 1_735_689_600_000;
const MARCH: i64 = 1_709_510_400_000;
const HOUR: i64 = 3_600_000;
const MINUTE: i64 = 60_000;
/// The opening of New York's exchange on 2 January 2025.
const OPENING: i64 = 1_735_828_200_000;

const CASES: [(&str, Gives); 38] = [
    (
        "backtrader/seven_names_eight_fields.txt",
        Read(10, MARCH + 9 * HOUR + MINUTE, &[], &["time of the day"]),
    ),
    ("binance/futures_header_ms.csv", Read(10, NEW_YEAR, &[], &["recognised: binance"])),
    ("binance/spot_us_noheader.csv", Read(10, NEW_YEAR, &[], &["recognised: binance"])),
    (
        "cryptodatadownload/as_downloaded.csv",
        Read(10, NEW_YEAR, &["BTC/USD"], &["volume = `Volume BTC`", "timestamp = `unix`", "turned round"]),
    ),
    ("dst/spring_gap.csv", Read(5, 1_710_035_400_000, &[], &[])),
    ("dukascopy/gmt_time.csv", Read(10, MARCH, &[], &["dukascopy"])),
    ("dukascopy/local_time.csv", Read(10, MARCH - HOUR, &[], &["dukascopy"])),
    ("freqtrade/BTC_USDT-5m.feather", Read(10, OPENING, &[], &[])),
    ("freqtrade/BTC_USDT-5m.parquet", Read(10, OPENING, &[], &[])),
    ("histdata/DAT_ASCII_EURUSD_M1.csv", Refused(&["as=histdata"], 10, &[MARCH + 5 * HOUR])),
    ("ib/midpoint_volume_minus_one.csv", Read(10, MARCH + 15 * HOUR, &[], &["is -1 in every row"])),
    ("ib/tws_date_zone.csv", Read(10, MARCH + 15 * HOUR, &[], &[])),
    (
        "kraken/XBTUSD_1.csv",
        Refused(&["as=kraken", "time,open,high,low,close,volume,trades"], 10, &[NEW_YEAR]),
    ),
    ("metatrader/EURUSD_M1_mt5.csv", Read(10, MARCH, &[], &["metatrader5", "the number of ticks, taken"])),
    ("metatrader/EURUSD_M1_utf16.csv", Read(10, MARCH, &[], &["metatrader5", "the number of ticks, taken"])),
    ("nautilus/pipes.csv", Read(10, NEW_YEAR, &[], &[])),
    (
        "no_trade/kaggle_bitstamp.csv",
        Refused(&["2 of 10 rows", "(lines 4, 5)", "data.missing=drop"], 8, &[NEW_YEAR]),
    ),
    ("no_trade/nan.csv", Refused(&["3 of 10 rows", "(lines 5, 6, 9)", "data.missing=drop"], 7, &[OPENING])),
    ("order/duplicate_same_numbers.csv", Refused(&["1 of 6 rows", "(line 5)", "line 4 too"], 0, &[])),
    ("order/out_of_order.csv", Refused(&["1 of 6 rows", "(line 5)", "time runs backward"], 0, &[])),
    ("order/repeated_header.csv", Read(6, OPENING - 5 * HOUR, &[], &["line 5 is a second header"])),
    ("parquet/ns_jitter.parquet", Read(10, OPENING, &[], &["rounded"])),
    ("parquet/ns_new_york.parquet", Read(10, OPENING, &[], &[])),
    ("parquet/prices_as_text.parquet", Read(10, OPENING, &[], &["numbers that are text"])),
    ("polygon/2025-01-02.csv.gz", Read(10, NEW_YEAR, &["AAA"], &["recognised: polygon"])),
    ("spellings/compact14.csv", Refused(&["time_format"], 3, &[MARCH + 9 * HOUR + 30 * MINUTE])),
    ("spellings/month_name.csv", Refused(&["time_format"], 3, &[MARCH + 9 * HOUR + 30 * MINUTE])),
    ("spellings/short_hour.csv", Refused(&["time_format"], 3, &[MARCH + 9 * HOUR + 30 * MINUTE])),
    ("spreadsheet/decimal_comma.csv", Read(10, MARCH + 10 * HOUR, &[], &["comma before the decimals"])),
    ("spreadsheet/sep_line.csv", Read(10, MARCH + 10 * HOUR, &[], &["sep=;"])),
    (
        "spreadsheet/us_afternoons.csv",
        Refused(&["2024-03-04", "2024-04-03"], 120, &[MARCH + 13 * HOUR, 1_712_149_200_000]),
    ),
    ("stooq/5_us_txt.txt", Read(10, MARCH + 15 * HOUR, &["ABC.US"], &["recognised: stooq"])),
    ("symbols/interleaved.csv", Read(10, MARCH + 14 * HOUR + 30 * MINUTE, &["AAA", "BBB"], &[])),
    ("symbols/one_after_the_other.csv", Read(10, MARCH + 14 * HOUR + 30 * MINUTE, &["AAA", "BBB"], &[])),
    ("tradingview/export.csv", Read(10, NEW_YEAR, &[], &["recognised: tradingview"])),
    ("yfinance/adjusted_noise.csv", Read(10, OPENING, &[], &["by its last place"])),
    ("yfinance/flat.csv", Read(10, OPENING, &[], &[])),
    ("yfinance/multi_index.csv", Read(10, OPENING, &["ABC"], &["recognised: yfinance"])),
];

/// The folder of the cases: beside that of the real bars.
fn folder() -> Option<PathBuf> {
    let beside = std::env::var_os("PLIMSOLL_DATA").map(|data| PathBuf::from(data).join("../cases/market"));
    let folder = beside.unwrap_or_else(|| root().join("../shared/cases/market"));
    if folder.is_dir() {
        return Some(folder);
    }
    skip(&format!("no market files at {} (PLIMSOLL_DATA may name the folder beside them)", folder.display()));
    None
}

/// Runs `plimsoll data` with more arguments; what it says and, where it succeeds, what it found.
fn data(scratch: &Path, more: &[&str]) -> (Output, String, Option<Value>) {
    let json = scratch.join("found.json");
    let arguments: Vec<&str> =
        ["data"].into_iter().chain(more.iter().copied()).chain(["--json", json.to_str().unwrap()]).collect();
    let output = run(scratch, &arguments);
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let found = output.status.success().then(|| read_json(&json)["files"][0]["instruments"].clone());
    (output, said, found)
}

/// The settings that a refusal prints, each as the arguments that follow it.
fn suggestions(said: &str, file: &str) -> Vec<Vec<String>> {
    let quoted = said.split("--data '").skip(1).filter_map(|rest| rest.split('\'').next());
    let mut all: Vec<Vec<String>> = quoted.map(|spelled| vec![spelled.to_owned()]).collect();
    let sets = said.split("--set ").skip(1).filter_map(|rest| rest.split([' ', ';', ',']).next());
    all.extend(sets.map(|set| vec![file.to_owned(), "--set".to_owned(), set.to_owned()]));
    all
}

#[test]
fn every_case_gives_what_it_must_and_every_setting_that_is_printed_works() {
    let Some(folder) = folder() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let mut wrong = Vec::new();
    for (name, gives) in &CASES {
        let path = folder.join(name);
        let file = path.to_str().unwrap();
        let (output, said, found) = data(scratch.path(), &[file]);
        let mut expect = |holds: bool, what: &str| {
            if !holds {
                wrong.push(format!("{name}: {what}:\n{said}"));
            }
        };
        match gives {
            Read(n_bars, first_millis, symbols, words) => {
                let Some(found) = found else {
                    expect(false, "is to be read");
                    continue;
                };
                let found = found.as_array().unwrap();
                expect(found.len() == symbols.len().max(1), "another number of instruments");
                expect(found[0]["first"]["open_millis"] == *first_millis, "begins at another moment");
                expect(found.iter().all(|one| one["bars"] == *n_bars), "another number of bars");
                for (one, symbol) in found.iter().zip(*symbols) {
                    expect(one["symbol"] == *symbol, "another symbol");
                }
                for word in *words {
                    expect(said.contains(word), word);
                }
            }
            Refused(words, n_bars, firsts) => {
                expect(output.status.code() == Some(2), "is to be refused with status 2");
                expect(said.trim_end().lines().count() == 1, "is to be refused in one line");
                expect(!said.contains("leave one of them"), "says to leave one of them");
                for word in *words {
                    expect(said.contains(word), word);
                }
                let ways = suggestions(&said, file);
                expect(ways.is_empty() == firsts.is_empty(), "prints no way out");
                let mut begun = Vec::new();
                for way in ways {
                    let way: Vec<&str> = way.iter().map(String::as_str).collect();
                    let (_, said, found) = data(scratch.path(), &way);
                    let one = found.map(|found| found[0].clone()).unwrap_or_default();
                    let first = one["first"]["open_millis"].as_i64().unwrap_or(0);
                    if one["bars"] != *n_bars || !firsts.contains(&first) {
                        expect(false, &format!("does not work when followed: {way:?}\n{said}"));
                    }
                    begun.push(first);
                }
                for first in *firsts {
                    expect(begun.contains(first), &format!("no setting reads it as beginning at {first}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_market_file_that_is_there_has_an_expectation() {
    let Some(folder) = folder() else { return };
    for entry in std::fs::read_dir(&folder).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_dir())
    {
        for file in std::fs::read_dir(entry.path()).unwrap() {
            let path = file.unwrap().path();
            let name = path.strip_prefix(&folder).unwrap().to_str().unwrap().to_owned();
            assert!(CASES.iter().any(|(known, _)| *known == name), "{name}");
        }
    }
}
