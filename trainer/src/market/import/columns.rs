//! Which column of a file is the time, which the open, and so on: by their usual names, in any case.
//!
//! Names are compared without case, spaces and punctuation: `Open Time`, `open_time` and `OpenTime` are one.
//! A near miss such as `Llow` is named in the error and never taken.

use std::path::Path;

use crate::error::Result;

use crate::market::import::source::file_error;

/// Number of columns that import needs.
pub(super) const N_ROLES: usize = 6;
/// Index of the time in [`Columns::indices`]; the five numbers follow it in the order of [`ROLES`].
pub(super) const TIME: usize = 0;

/// What a column can be, and the names it goes by, reduced as [`reduce`] does; the first is the usual one.
const ROLES: [(&str, &[&str]); N_ROLES] = [
    (
        "timestamp",
        &[
            "timestamp",
            "date",
            "time",
            "datetime",
            "timestamputc",
            "datetimeutc",
            "dateutc",
            "timeutc",
            "utc",
            "opentime",
            "opentimestamp",
            "starttime",
            "start",
            "begin",
            "ts",
            "tsevent",
            "t",
            "unix",
            "unixtime",
            "gmttime",
        ],
    ),
    ("open", &["open", "o", "openprice"]),
    ("high", &["high", "h", "highprice"]),
    ("low", &["low", "l", "lowprice"]),
    ("close", &["close", "c", "closeprice"]),
    ("volume", &["volume", "vol", "v", "tickvolume", "tickvol"]),
];

/// Names under which pandas writes the index of a table; they count as the time only where nothing else does.
const INDEX_NAMES: [&str; 4] = ["indexlevel0", "index", "unnamed0", ""];

/// How alike two names must be, from 0 to 1, for one to be offered for the other.
const NEAR_FRACTION: f64 = 0.6;

/// The columns of a file that import reads.
pub(super) struct Columns {
    /// For each role, in the order time, open, high, low, close, volume: the index of its column in the file.
    pub(super) indices: [usize; N_ROLES],
    names: [String; N_ROLES],
    ignored: Vec<String>,
}

impl Columns {
    /// Finds each role's column among a file's column names.
    pub(super) fn find(path: &Path, names: &[String]) -> Result<Columns> {
        let reduced: Vec<String> = names.iter().map(|name| reduce(name)).collect();
        let mut found: [Option<usize>; N_ROLES] = [None; N_ROLES];
        for (role, (usual, aliases)) in ROLES.iter().enumerate() {
            let mut candidates = indices_named(&reduced, aliases);
            if role == TIME && candidates.is_empty() {
                candidates = indices_named(&reduced, &INDEX_NAMES);
            }
            if let [first, second, ..] = candidates[..] {
                let (first, second) = (&names[first], &names[second]);
                return Err(file_error(
                    path,
                    format!(
                        "two columns could be `{usual}`: `{first}` and `{second}`; leave one, or join them if each \
                         holds a part"
                    ),
                ));
            }
            found[role] = candidates.first().copied();
        }
        let mut indices = [0; N_ROLES];
        for (role, index) in found.iter().enumerate() {
            indices[role] = index.ok_or_else(|| missing(path, role, names, &reduced, &found))?;
        }
        let ignored = (0..names.len()).filter(|i| !indices.contains(i)).map(|i| names[i].clone()).collect();
        Ok(Columns { indices, names: indices.map(|i| names[i].clone()), ignored })
    }

    /// The file's own name of a role's column.
    pub(super) fn name(&self, role: usize) -> &str {
        &self.names[role]
    }

    /// What was taken, for the user to read.
    pub(super) fn note(&self) -> String {
        let taken: Vec<String> =
            ROLES.iter().zip(&self.names).map(|((usual, _), name)| format!("{usual} = `{name}`")).collect();
        let mut note = format!("columns: {}", taken.join(", "));
        if !self.ignored.is_empty() {
            note.push_str(&format!("; not read: {}", quoted(&self.ignored)));
        }
        note
    }
}

fn indices_named(reduced: &[String], aliases: &[&str]) -> Vec<usize> {
    (0..reduced.len()).filter(|&i| aliases.contains(&reduced[i].as_str())).collect()
}

/// The error of a role without a column: names the near name where there is one.
fn missing(
    path: &Path,
    role: usize,
    names: &[String],
    reduced: &[String],
    found: &[Option<usize>; N_ROLES],
) -> crate::error::Error {
    let (usual, aliases) = ROLES[role];
    if names.iter().any(|name| name.trim().parse::<f64>().is_ok()) {
        return file_error(
            path,
            "its first line holds numbers where the names of the columns belong: add a header such as \
             timestamp,open,high,low,close,volume",
        );
    }
    let nearest = (0..names.len())
        .filter(|i| !found.contains(&Some(*i)))
        .map(|i| {
            let likeness = aliases
                .iter()
                .filter(|alias| alias.len() > 2)
                .map(|alias| strsim::normalized_damerau_levenshtein(alias, &reduced[i]))
                .fold(0.0, f64::max);
            (likeness, i)
        })
        .filter(|(likeness, _)| *likeness >= NEAR_FRACTION)
        .max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)));
    let mut problem = match nearest {
        Some((_, i)) => format!("no column for `{usual}`; `{}` looks near: rename it to `{usual}`", names[i]),
        None => format!(
            "no column for `{usual}` among {}: add it, or rename the one that holds it",
            quoted(names)
        ),
    };
    if usual == "volume" {
        problem.push_str(" (a market without volume: add a column of zeros)");
    }
    file_error(path, problem)
}

/// A name without case, spaces and punctuation.
fn reduce(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Names in backticks, a few of many.
fn quoted(names: &[String]) -> String {
    const MOST: usize = 12;
    let mut text = names.iter().take(MOST).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if names.len() > MOST {
        text.push_str(&format!(" and {} more", names.len() - MOST));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(header: &str) -> std::result::Result<[usize; N_ROLES], String> {
        let names: Vec<String> = header.split(',').map(str::to_owned).collect();
        Columns::find(Path::new("bars.csv"), &names).map(|c| c.indices).map_err(|e| e.to_string())
    }

    #[test]
    fn usual_names_are_found_in_any_case_and_order() {
        assert_eq!(find("timestamp,open,high,low,close,volume"), Ok([0, 1, 2, 3, 4, 5]));
        assert_eq!(find("VOL,C,L,H,O,Open Time"), Ok([5, 4, 3, 2, 1, 0]));
        assert_eq!(find("symbol,timestamp_utc,Open,High,Low,Close,Adj Close,Volume"), Ok([1, 2, 3, 4, 5, 7]));
        assert_eq!(find("open,high,low,close,volume,__index_level_0__"), Ok([5, 0, 1, 2, 3, 4]));
        assert_eq!(find(",date,open,high,low,close,volume"), Ok([1, 2, 3, 4, 5, 6]), "the index gives way");
        assert_eq!(find(",open,high,low,close,volume"), Ok([0, 1, 2, 3, 4, 5]), "an index alone is the time");
    }

    #[test]
    fn a_near_name_is_named_and_not_taken() {
        let error = find("timestamp,open,high,Llow,close,volume").unwrap_err();
        assert_eq!(error, "bars.csv: no column for `low`; `Llow` looks near: rename it to `low`");
        assert!(find("tmestamp,open,high,low,close,volume").unwrap_err().contains("`tmestamp` looks near"));
        let error = find("timestamp,open,high,low,close,Volume BTC").unwrap_err();
        assert!(error.contains("`Volume BTC` looks near") && error.contains("column of zeros"), "{error}");
    }

    #[test]
    fn a_missing_column_lists_what_there_is() {
        let error = find("timestamp,open,low,close,volume").unwrap_err();
        assert_eq!(
            error,
            "bars.csv: no column for `high` among `timestamp`, `open`, `low`, `close`, `volume`: add it, or rename \
             the one that holds it"
        );
        assert!(find("timestamp,open,high,low,close").unwrap_err().contains("column of zeros"));
    }

    #[test]
    fn two_columns_for_one_role_are_refused() {
        let error = find("date,time,open,high,low,close,volume").unwrap_err();
        assert!(error.contains("`date` and `time`"), "{error}");
        assert!(find("date,open,Open,high,low,close,volume").unwrap_err().contains("`open` and `Open`"));
    }

    #[test]
    fn a_file_without_a_header_is_told_to_add_one() {
        let error = find("1514764800000,1.0,1.0,1.0,1.0,5").unwrap_err();
        assert!(error.contains("add a header"), "{error}");
    }
}
