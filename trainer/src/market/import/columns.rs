//! Which column of a file is the time, which the open, and so on: by their usual names, in any case.
//!
//! Names are compared without case, spaces and punctuation: `Open Time`, `open_time` and `<OPENTIME>` are one. A near
//! miss such as `Llow` is named in the error and never taken; the option `columns` takes it.

use std::collections::BTreeMap;

use crate::market::import::cell::{N_SLOTS, OPEN, SYMBOL, TICK_VOLUME, TIME, TIME_OF_DAY, VOLUME};

/// What a column can be, by slot: the word of the option `columns` for it, and the names it goes by, reduced as
/// [`reduce`] does.
const SLOTS: [(&str, &[&str]); N_SLOTS] = [
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
            "unixtimestamp",
            "gmttime",
            "localtime",
            "windowstart",
            "timeeet",
        ],
    ),
    ("time", &[]),
    ("open", &["open", "o", "openprice"]),
    ("high", &["high", "h", "highprice"]),
    ("low", &["low", "l", "lowprice"]),
    ("close", &["close", "c", "closeprice"]),
    ("volume", &["volume", "vol", "v"]),
    ("tick_volume", &["tickvolume", "tickvol"]),
    ("symbol", &["symbol", "ticker", "instrument", "pair", "sym", "instrumentname"]),
];

/// Names of a date and of a time of day that make one stamp together.
const DATES: [&str; 2] = ["date", "day"];
const TIMES_OF_DAY: [&str; 2] = ["time", "timeofday"];

/// Names under which pandas writes the index of a table; they count as the time only where nothing else does.
const INDEX_NAMES: [&str; 4] = ["indexlevel0", "index", "unnamed0", ""];

/// How alike two names must be, from 0 to 1, for one to be offered for the other.
const NEAR_FRACTION: f64 = 0.6;

/// The columns of a file that import reads for one instrument, or for all that a column of symbols names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Columns {
    /// For each slot: the index of its column in the file.
    pub(super) indices: [Option<usize>; N_SLOTS],
    /// The instrument's symbol, where a line of the header names it.
    pub(super) symbol: Option<String>,
    names: Vec<String>,
}

impl Columns {
    /// Finds each slot's column among a file's column names. `told` maps our words to the file's names; `first_row` is a
    /// row of the file, or empty.
    ///
    /// # Errors
    /// What is missing or stands twice, and what to do.
    pub(super) fn find(
        names: &[String],
        told: &BTreeMap<String, String>,
        first_row: &[String],
    ) -> Result<Columns, String> {
        let reduced: Vec<String> = names.iter().map(|name| reduce(name)).collect();
        let mut indices = of_told(names, &reduced, told)?;
        let has_no_volume = told.get("volume").is_some_and(String::is_empty);
        let free = |indices: &[Option<usize>; N_SLOTS], aliases: &[&str]| -> Vec<usize> {
            (0..names.len())
                .filter(|i| aliases.contains(&reduced[*i].as_str()) && !indices.contains(&Some(*i)))
                .collect()
        };
        if indices[TIME].is_none() {
            let mut candidates = free(&indices, SLOTS[TIME].1);
            if candidates.is_empty() {
                candidates = free(&indices, &INDEX_NAMES);
            }
            match candidates[..] {
                [a, b]
                    if DATES.contains(&reduced[a].as_str())
                        && TIMES_OF_DAY.contains(&reduced[b].as_str()) =>
                {
                    (indices[TIME], indices[TIME_OF_DAY]) = (Some(a), Some(b));
                }
                [] => {}
                [only] => indices[TIME] = Some(only),
                [first, second, ..] => return Err(two_for(TIME, &names[first], &names[second])),
            }
        }
        if told.contains_key("date") && indices[TIME_OF_DAY].is_none() {
            indices[TIME_OF_DAY] = free(&indices, &TIMES_OF_DAY).first().copied();
        }
        for slot in OPEN..N_SLOTS {
            if indices[slot].is_some() || slot == VOLUME && has_no_volume {
                continue;
            }
            match free(&indices, SLOTS[slot].1)[..] {
                [] => {}
                [only] => indices[slot] = Some(only),
                [first, second, ..] => return Err(two_for(slot, &names[first], &names[second])),
            }
        }
        if indices[VOLUME].is_none() && !has_no_volume {
            let of_base = volume_of_base(&reduced, first_row, indices[SYMBOL]);
            indices[VOLUME] = of_base.or_else(|| indices[TICK_VOLUME].take());
        }
        for slot in [TIME, OPEN, OPEN + 1, OPEN + 2, OPEN + 3] {
            if indices[slot].is_none() {
                return Err(missing(slot, names, &reduced, &indices));
            }
        }
        if indices[VOLUME].is_none() && !has_no_volume && near(VOLUME, &reduced, &indices).is_some() {
            return Err(missing(VOLUME, names, &reduced, &indices));
        }
        Ok(Columns { indices, symbol: None, names: names.to_vec() })
    }

    /// The file's own name of a slot's column; our word where the file has none.
    pub(super) fn name(&self, slot: usize) -> &str {
        self.indices[slot].map_or(SLOTS[slot].0, |index| &self.names[index])
    }

    /// The same columns, of one instrument alone.
    pub(super) fn of_symbol(self, symbol: &str) -> Columns {
        Columns { symbol: Some(symbol.to_owned()), ..self }
    }

    /// The columns that hold the stamp and the symbol, without the numbers.
    pub(super) fn times(&self) -> Columns {
        let mut indices = self.indices;
        indices[OPEN..=TICK_VOLUME].fill(None);
        Columns { indices, ..self.clone() }
    }

    /// What was taken, for the user to read.
    pub(super) fn note(&self) -> String {
        let taken: Vec<String> = SLOTS
            .iter()
            .zip(self.indices)
            .filter_map(|((word, _), index)| Some(format!("{word} = `{}`", self.names[index?])))
            .collect();
        let ignored: Vec<String> = (0..self.names.len())
            .filter(|i| !self.indices.contains(&Some(*i)) && !self.names[*i].is_empty())
            .map(|i| self.names[i].clone())
            .collect();
        let mut note = format!("columns: {}", taken.join(", "));
        if !ignored.is_empty() {
            note.push_str(&format!("; not read: {}", quoted(&ignored)));
        }
        note
    }
}

/// The columns that the user named.
fn of_told(
    names: &[String],
    reduced: &[String],
    told: &BTreeMap<String, String>,
) -> Result<[Option<usize>; N_SLOTS], String> {
    let mut indices = [None; N_SLOTS];
    for (ours, theirs) in told {
        // A date beside a time of day is a stamp, as in the names of files.
        let word = if ours == "date" { "timestamp" } else { ours };
        let Some(slot) = SLOTS.iter().position(|(usual, _)| *usual == word) else {
            let words: Vec<&str> = SLOTS.iter().map(|(usual, _)| *usual).collect();
            return Err(format!("columns: `{ours}` is none of ours, which are {}, date", words.join(", ")));
        };
        if theirs.is_empty() && slot == VOLUME {
            continue;
        }
        let exact = names.iter().position(|name| name == theirs);
        let index = exact.or_else(|| reduced.iter().position(|name| *name == reduce(theirs)));
        indices[slot] = Some(
            index.ok_or_else(|| format!("columns: there is no column `{theirs}` among {}", quoted(names)))?,
        );
    }
    Ok(indices)
}

/// Of several volumes, such as `Volume BTC` and `Volume USD`, the one in what the row's symbol, `BTC/USD`, begins with.
fn volume_of_base(reduced: &[String], first_row: &[String], symbol: Option<usize>) -> Option<usize> {
    let symbol = reduce(first_row.get(symbol?)?);
    let mut of_base = (0..reduced.len()).filter(|i| {
        reduced[*i].strip_prefix("volume").is_some_and(|base| !base.is_empty() && symbol.starts_with(base))
    });
    of_base.next().filter(|_| of_base.next().is_none())
}

fn two_for(slot: usize, first: &str, second: &str) -> String {
    let word = SLOTS[slot].0;
    format!(
        "two columns could be `{word}`: `{first}` and `{second}`; say which, as in columns={word}:{first} after a `?` \
         behind the file's name"
    )
}

/// The name that is nearest to those of a slot, if one is near.
fn near(slot: usize, reduced: &[String], found: &[Option<usize>; N_SLOTS]) -> Option<usize> {
    (0..reduced.len())
        .filter(|i| !found.contains(&Some(*i)))
        .map(|i| {
            let likeness = SLOTS[slot]
                .1
                .iter()
                .filter(|alias| alias.len() > 2)
                .map(|alias| strsim::normalized_damerau_levenshtein(alias, &reduced[i]))
                .fold(0.0, f64::max);
            (likeness, i)
        })
        .filter(|(likeness, _)| *likeness >= NEAR_FRACTION)
        .max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)))
        .map(|(_, i)| i)
}

/// The error of a slot without a column: names the near name where there is one.
fn missing(slot: usize, names: &[String], reduced: &[String], found: &[Option<usize>; N_SLOTS]) -> String {
    let word = SLOTS[slot].0;
    match near(slot, reduced, found) {
        Some(i) => format!(
            "no column for `{word}`; `{0}` looks near: say so with columns={word}:{0} after a `?` behind the file's \
             name{1}",
            names[i],
            if slot == VOLUME { ", or columns=volume: if the file has no volume" } else { "" }
        ),
        None => format!(
            "no column for `{word}` among {}: add it, or say which one holds it with columns={word}:NAME after a `?` \
             behind the file's name",
            quoted(names)
        ),
    }
}

/// A name without case, spaces and punctuation.
pub(super) fn reduce(name: &str) -> String {
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

    fn split(text: &str) -> Vec<String> {
        text.split(',').map(str::to_owned).collect()
    }

    fn find(header: &str) -> Result<Vec<Option<usize>>, String> {
        Columns::find(&split(header), &BTreeMap::new(), &[]).map(|columns| columns.indices.to_vec())
    }

    fn found(indices: [usize; 6]) -> Result<Vec<Option<usize>>, String> {
        let [time, open, high, low, close, volume] = indices.map(Some);
        Ok(vec![time, None, open, high, low, close, volume, None, None])
    }

    #[test]
    fn usual_names_are_found_in_any_case_and_order() {
        assert_eq!(find("timestamp,open,high,low,close,volume"), found([0, 1, 2, 3, 4, 5]));
        assert_eq!(find("VOL,C,L,H,O,Open Time"), found([5, 4, 3, 2, 1, 0]));
        assert_eq!(find("timestamp_utc,Open,High,Low,Close,Adj Close,Volume"), found([0, 1, 2, 3, 4, 6]));
        assert_eq!(find("open,high,low,close,volume,__index_level_0__"), found([5, 0, 1, 2, 3, 4]));
        assert_eq!(
            find(",date,open,high,low,close,volume"),
            found([1, 2, 3, 4, 5, 6]),
            "the index gives way"
        );
        assert_eq!(
            find(",open,high,low,close,volume"),
            found([0, 1, 2, 3, 4, 5]),
            "an index alone is the time"
        );
    }

    #[test]
    fn date_and_time_tick_volume_and_symbol_have_columns_of_their_own() {
        let all = find("<TICKER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<TICKVOL>,<VOL>").unwrap();
        assert_eq!(all, [1, 2, 3, 4, 5, 6, 8, 7, 0].map(Some));
        let ticks = find("date,open,high,low,close,tick_volume").unwrap();
        assert_eq!((ticks[VOLUME], ticks[TICK_VOLUME]), (Some(5), None), "ticks alone are the volume");
        assert_eq!(find("date,open,high,low,close").unwrap()[VOLUME], None, "a market may have no volume");
    }

    #[test]
    fn told_names_come_first() {
        let told = [("close".to_owned(), "Last".to_owned()), ("date".to_owned(), "Day".to_owned())].into();
        let names = split("Day,Time,Open,High,Low,Close,Last");
        let columns = Columns::find(&names, &told, &[]).unwrap();
        assert_eq!((columns.name(TIME), columns.name(TIME_OF_DAY)), ("Day", "Time"));
        assert_eq!(columns.name(OPEN + 3), "Last");
        let none = [("volume".to_owned(), String::new())].into();
        let columns = Columns::find(&split("date,open,high,low,close,value"), &none, &[]).unwrap();
        assert_eq!(columns.indices[VOLUME], None);
        let wrong = [("close".to_owned(), "Lst".to_owned())].into();
        assert!(Columns::find(&names, &wrong, &[]).unwrap_err().contains("no column `Lst` among `Day`"));
        let wrong = [("cloze".to_owned(), "Last".to_owned())].into();
        assert!(Columns::find(&names, &wrong, &[]).unwrap_err().contains("`cloze` is none of ours"));
    }

    #[test]
    fn of_two_volumes_that_of_the_symbols_base_is_taken() {
        let names = split("unix,symbol,open,high,low,close,Volume USD,Volume BTC");
        let row = split("1,BTC/USD,1,1,1,1,2,3");
        let columns = Columns::find(&names, &BTreeMap::new(), &row).unwrap();
        assert_eq!(columns.name(VOLUME), "Volume BTC");
    }

    #[test]
    fn a_near_name_is_named_and_not_taken() {
        let error = find("timestamp,open,high,Llow,close,volume").unwrap_err();
        assert!(
            error.starts_with("no column for `low`; `Llow` looks near: say so with columns=low:Llow"),
            "{error}"
        );
        assert!(find("tmestamp,open,high,low,close,volume").unwrap_err().contains("`tmestamp` looks near"));
        let error = find("timestamp,open,high,low,close,Volume BTC").unwrap_err();
        assert!(
            error.contains("`Volume BTC` looks near") && error.contains("columns=volume:Volume BTC"),
            "{error}"
        );
    }

    #[test]
    fn a_missing_column_lists_what_there_is() {
        let error = find("timestamp,open,low,close,volume").unwrap_err();
        assert!(
            error.starts_with(
                "no column for `high` among `timestamp`, `open`, `low`, `close`, `volume`: add it"
            ),
            "{error}"
        );
    }

    #[test]
    fn two_columns_for_one_role_are_refused_with_the_way_to_choose() {
        let error = find("unix,date,open,high,low,close,volume").unwrap_err();
        assert!(error.contains("`unix` and `date`") && error.contains("columns=timestamp:unix"), "{error}");
        assert!(find("date,open,Open,high,low,close,volume").unwrap_err().contains("`open` and `Open`"));
    }
}
