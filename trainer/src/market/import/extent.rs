//! An estimate of how many bars a file holds and how wide they are, without reading it whole.

use std::io::{BufRead, Read};

use parquet::file::reader::{FileReader, SerializedFileReader};

use crate::error::Result;
use crate::market::bar::DECISION_MILLIS;
use crate::market::import::check::Rows;
use crate::market::import::csv;
use crate::market::import::source::open;
use crate::market::import::source_options::Source;
use crate::market::import::stamps::Stamps;

/// Bytes of a text file that are looked at.
const SAMPLE_BYTES: u64 = 1 << 16;

/// About how many rows and bars a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Rows of the file, about.
    pub n_rows: u64,
    /// About how many decision bars the rows make; as many as rows where the width is unknown.
    pub n_decision_bars: u64,
}

/// Looks at the beginning of a CSV file, or at the footer of a Parquet file.
/// [`import`](crate::market::import::import) reports what is wrong with the file; here what cannot be read counts
/// as little.
///
/// # Errors
/// Where the file cannot be opened.
pub fn extent(source: &Source) -> Result<Extent> {
    let Source { path, options } = source;
    let mut file = open(path)?;
    let total_bytes = file.get_ref().metadata().map_or(0, |metadata| metadata.len());
    if file.fill_buf().is_ok_and(|head| head.starts_with(b"PAR1")) {
        let rows = SerializedFileReader::new(file.into_inner())
            .map_or(0, |reader| reader.metadata().file_metadata().num_rows());
        let n_rows = u64::try_from(rows).unwrap_or(0);
        return Ok(Extent { n_rows, n_decision_bars: n_rows });
    }
    let mut sample = Vec::new();
    let _ = file.take(SAMPLE_BYTES).read_to_end(&mut sample);
    let sampled_bytes = sample.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    sample.truncate(sampled_bytes);
    let n_lines = sample.iter().filter(|byte| **byte == b'\n').count().max(2) as u64 - 1;
    let n_rows = n_lines * total_bytes / (sampled_bytes.max(1) as u64);
    let read = csv::read(sample.as_slice(), source, Rows::new(path), Stamps::new(options)?);
    let width_millis = read.and_then(|(rows, _)| rows.into_bars(options.label, &mut Vec::new()));
    let n_decision_bars = match width_millis {
        Ok((width, _)) if (1..DECISION_MILLIS).contains(&width) => {
            // Gaps leave decision bars that hold fewer rows.
            (n_rows as f64 * width as f64 / DECISION_MILLIS as f64 * 1.1) as u64
        }
        _ => n_rows,
    };
    Ok(Extent { n_rows, n_decision_bars })
}
