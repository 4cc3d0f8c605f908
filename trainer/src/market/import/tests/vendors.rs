//! Bars in any vendor's spelling are read as they were written.

use std::collections::BTreeSet;
use std::fs;

use proptest::prelude::*;

use crate::market::bar::{Bar, MINUTE_MILLIS};
use crate::market::import::market_files::{MarketFile, market_files};
use crate::market::import::{Source, import, presets};

/// Bars of one width on its grid, most of them side by side, between 2003 and 2033.
fn any_bars() -> impl Strategy<Value = Vec<Bar>> {
    let price = || prop_oneof![0.000_01..1e-3, 0.5..2.0, 50.0..200.0, 1e4..1e5f64];
    let first = 1_041_379_200_000i64..1_988_150_400_000;
    let row = (0.0..0.01f64, -1.0..1.0f64, -1.0..1.0f64, 0u32..100_000);
    (first, prop_oneof![Just(1), Just(5)], price(), prop::collection::vec((row, 0i64..3), 4..24)).prop_map(
        |(first, minutes, price, rows)| {
            let width = minutes * MINUTE_MILLIS;
            let mut open_millis = first.div_euclid(width) * width;
            let mut bars: Vec<Bar> = Vec::new();
            let n_rows = rows.len();
            for (i, ((range, open, close, volume), gap)) in rows.into_iter().enumerate() {
                let [open, close]: [f64; 2] = [open, close].map(|at: f64| price * (1.0 + range * at));
                let (high, low) = (open.max(close) * (1.0 + range), open.min(close) * (1.0 - range));
                let close_millis = open_millis + width;
                bars.push(Bar {
                    open_millis,
                    close_millis,
                    open,
                    high,
                    low,
                    close,
                    volume: f64::from(volume),
                });
                // The first half lies side by side, so that the width is plain.
                open_millis = close_millis + if i * 2 > n_rows { gap * width } else { 0 };
            }
            bars
        },
    )
}

/// Whether a vendor who writes no offset leaves it open when a bar was.
fn is_in_a_repeated_hour(bar: &Bar) -> bool {
    let zone = jiff::tz::TimeZone::get("America/New_York").unwrap();
    let instant = jiff::Timestamp::from_millisecond(bar.open_millis).unwrap();
    zone.to_ambiguous_timestamp(zone.to_datetime(instant)).is_ambiguous()
}

fn read(file: &MarketFile) -> Result<Vec<Bar>, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(file.name);
    fs::write(&path, &file.bytes).unwrap();
    let mut told = path.into_os_string();
    if !file.told.is_empty() {
        told.push(format!("?{}", file.told));
    }
    let source = Source::from_text(told.as_ref())?;
    let imported = import(&source).map_err(|error| error.to_string())?;
    let [one] = &imported[..] else { return Err(format!("{} instruments", imported.len())) };
    assert_eq!(one.symbol.as_deref(), file.symbol, "{}", file.name);
    Ok(one.bars.bars.clone())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn bars_in_any_vendors_spelling_are_read_as_they_were_written(bars in any_bars()) {
        prop_assume!(!bars.iter().any(is_in_a_repeated_hour));
        for file in market_files(&bars) {
            let mut expected = bars.clone();
            if !file.has_volume {
                expected.iter_mut().for_each(|bar| bar.volume = 0.0);
            }
            prop_assert_eq!(read(&file), Ok(expected), "{} {}", file.vendor, file.name);
        }
    }
}

#[test]
fn every_preset_has_a_file_that_it_reads() {
    let written: BTreeSet<&str> = market_files(&[]).iter().map(|file| file.vendor).collect();
    for preset in presets::names() {
        assert!(written.contains(preset), "{preset}");
    }
}
