//! The import of bars for fuzzing: the modules of `trainer` that it is made of, from their own files, without the rest of
//! the crate. So no libtorch is needed, whose libraries are not instrumented.

#[path = "../../src/error.rs"]
pub mod error;
#[path = "../../src/format.rs"]
pub mod format;
#[path = "../../src/interrupt.rs"]
pub mod interrupt;

/// The market, as far as importing needs it.
#[path = "../../src/market"]
pub mod market {
    pub mod bar;
    pub mod import;
    #[path = "import/tests/market_files.rs"]
    pub(crate) mod market_files;
}

pub use error::{Error, Result};

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use market::bar::Bar;
use market::import::{Imported, Source, SourceOptions, import};

/// A file without a name, in `/dev/shm` if there is one, and the path by which this process opens it. Each input
/// overwrites it.
static FILE: LazyLock<(File, PathBuf)> = LazyLock::new(|| {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let path = folder.join(format!("plimsoll-fuzz-{}", std::process::id()));
    let file = File::create(&path).expect("a file can be made");
    std::fs::remove_file(&path).expect("what was made can be removed");
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    (file, path.into())
});

/// How a message speaks of stamps whose spelling is not known or not right.
const SPELLING_FAULTS: [&str; 5] = [
    "does not fit data.time_format",
    "is neither ISO 8601",
    "mixed spellings",
    "fits two spellings",
    "leaves open",
];

/// Reads a file of the given content.
///
/// # Errors
///
/// The refusal.
pub fn import_bytes(content: &[u8], options: &SourceOptions) -> Result<Vec<Imported>> {
    let (file, path) = &*FILE;
    file.set_len(0).and_then(|()| file.write_all_at(content, 0)).expect("a small file can be written");
    import(&Source { path: path.clone(), options: options.clone() })
}

/// Checks what was read or refused: bars that a market can have made, or one line for the user whose every suggestion
/// about stamps is taken when it is followed.
///
/// # Panics
///
/// Where it is neither.
pub fn check(content: &[u8], options: &SourceOptions, read: &Result<Vec<Imported>>) {
    match read {
        Ok(imported) => {
            assert!(!imported.is_empty());
            for one in imported {
                check_bars(one);
            }
        }
        Err(error) => {
            let text = error.to_string();
            assert!(error.is_usage(), "the file is at fault: {text}");
            assert!(!text.contains('\n'), "one line: {text}");
            for suggestion in suggestions(&text) {
                let source = Source::from_text(Path::new(&suggestion)).expect("a suggestion is understood");
                if source.options.time_format == options.time_format {
                    continue;
                }
                let Err(error) = import_bytes(content, &source.options) else { continue };
                let text = error.to_string();
                // Its rows may have other faults, such as their order.
                let is_of_stamps = SPELLING_FAULTS.iter().any(|fault| text.contains(fault));
                assert!(!is_of_stamps, "followed, `{suggestion}` is refused: {text}");
            }
        }
    }
}

/// The sources with a format of time that a message says to type.
fn suggestions(message: &str) -> Vec<String> {
    // A quote inside a source is written in a shell's way, which is not undone here.
    if message.contains(r"'\''") {
        return Vec::new();
    }
    let sources = message.split("--data '").skip(1).filter_map(|rest| rest.split('\'').next());
    sources.filter(|source| source.contains("time_format=")).map(str::to_owned).collect()
}

fn check_bars(one: &Imported) {
    let width_millis = one.bars.width_millis;
    assert!(width_millis > 0 && one.bars.bars.len() > 1);
    for bar in &one.bars.bars {
        assert_eq!(bar.close_millis - bar.open_millis, width_millis);
        assert!(bar.low > 0.0 && bar.volume >= 0.0 && bar.volume.is_finite() && bar.high.is_finite());
        assert!(bar.low <= bar.open.min(bar.close) && bar.open.max(bar.close) <= bar.high);
    }
    for pair in one.bars.bars.windows(2) {
        assert!(pair[0].close_millis <= pair[1].open_millis);
    }
    assert!(one.notes.iter().all(|note| !note.is_empty() && !note.contains('\n')), "{:?}", one.notes);
}

/// A file of bars as a vendor writes it.
pub struct Seed {
    /// The vendor's name and the file's.
    pub name: String,
    /// What must be told to read it, as it stands after a file's name and `?`.
    pub told: &'static str,
    /// The file.
    pub content: Vec<u8>,
}

/// Bars in the spelling of every vendor.
///
/// # Panics
///
/// Where such a file is not read as what was written.
#[must_use]
pub fn vendors_files(bars: &[Bar]) -> Vec<Seed> {
    let seed = |file: market::market_files::MarketFile| {
        let told =
            Source::from_text(Path::new(&format!("bars?{}", file.told))).expect("what is told is understood");
        let read = import_bytes(&file.bytes, &told.options).expect("a vendor's file is read");
        assert_eq!(read[0].symbol.as_deref(), file.symbol, "{}", file.name);
        assert_eq!(read[0].bars.bars.iter().any(|bar| bar.volume > 0.0), file.has_volume, "{}", file.name);
        Seed {
            name: format!("{}-{}", file.vendor, file.name.replace([' ', ','], "")),
            told: file.told,
            content: file.bytes,
        }
    };
    market::market_files::market_files(bars).into_iter().map(seed).collect()
}

/// Bars as a text whose stamps, in UTC, are spelled as strftime's letters say.
#[must_use]
pub fn spelled(bars: &[Bar], format: &str) -> Vec<u8> {
    let mut text = "timestamp,open,high,low,close,volume\n".to_owned();
    for b in bars {
        let instant = Timestamp::from_millisecond(b.open_millis).unwrap_or_default().to_zoned(TimeZone::UTC);
        text.push_str(&format!(
            "{},{},{},{},{},{}\n",
            instant.strftime(format),
            b.open,
            b.high,
            b.low,
            b.close,
            b.volume
        ));
    }
    text.into_bytes()
}
