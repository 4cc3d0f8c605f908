//! The dialect of a text file, told from its beginning: what stands between its columns, which lines above the table are
//! no part of it, and which lines name its columns.

use crate::market::import::columns::reduce;

/// The fewest fields of a row: a stamp and four prices.
const FEWEST_FIELDS: usize = 5;
/// The most lines above the header that are looked at.
const MOST_LINES_ABOVE: usize = 20;
/// The most rows of the file's beginning that are kept.
const MOST_ROWS: usize = 64;
/// What may stand between columns. Of those that cut a line into equally many fields the first is taken: a comma may
/// stand before decimals too.
const DELIMITERS: [u8; 4] = [b'\t', b';', b'|', b','];

/// How the columns of a text file are named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Header {
    /// One line of names.
    Names(Vec<String>),
    /// pandas' names in two levels: for each column what it holds, and the instrument's symbol.
    Levels { names: Vec<String>, symbols: Vec<String> },
    /// No line of names; every row has so many fields.
    Absent(usize),
}

/// The dialect of a text file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dialect {
    /// What stands between two columns.
    pub(super) delimiter: u8,
    /// The first record of the table after the header, counted in records from 0.
    pub(super) first_row: usize,
    /// The names of the columns.
    pub(super) header: Header,
    /// The first rows of the table.
    pub(super) rows: Vec<Vec<String>>,
    /// What was skipped and guessed, for the user to read.
    pub(super) notes: Vec<String>,
}

impl Dialect {
    /// Tells the dialect from the beginning of a file, whole lines. `told_lines` are the lines above the table as the
    /// user told them; `told_names` whether the user tells the names of the columns.
    pub(super) fn of(head: &str, told_lines: Option<u64>, told_names: bool) -> Dialect {
        let lines: Vec<&str> = head.split('\n').map(str::trim_end).collect();
        let mut notes = Vec::new();
        let told_delimiter = lines.first().and_then(|line| separator_line(line));
        let above =
            told_lines.map_or_else(|| lines_above(&lines), |n| usize::try_from(n).unwrap_or(usize::MAX));
        for line in lines.iter().take(above).filter(|line| !line.is_empty()) {
            let shown: String = line.chars().take(60).collect();
            notes.push(format!("the line `{shown}` stands above the table: not read"));
        }
        let table = || lines.iter().skip(above).filter(|line| !line.is_empty());
        let delimiter =
            told_delimiter.unwrap_or_else(|| table().next().map_or(b',', |line| best_delimiter(line).0));
        let records: Vec<Vec<String>> = table().take(MOST_ROWS).map(|line| fields(line, delimiter)).collect();
        let skipped = lines.iter().take(above).filter(|line| !line.is_empty()).count();
        let (mut header, n_header) = match header_of(&records) {
            (Header::Names(names), 1) if told_names => (Header::Absent(names.len()), 1),
            other => other,
        };
        let rows = records.get(n_header..).unwrap_or_default().to_vec();
        if let Header::Names(names) = &mut header
            && let Some(row) = rows.first()
            && row.len() == names.len() + 1
            && reduce(&names[0]).contains("date")
            && is_time_of_day(&row[1])
        {
            notes.push(format!(
                "the rows have {} fields under {} names: the second is the time of the day",
                row.len(),
                names.len()
            ));
            names[0] = "date".to_owned();
            names.insert(1, "time".to_owned());
        }
        if let Header::Absent(n_fields) = &mut header {
            *n_fields = rows.first().map_or(*n_fields, Vec::len);
        }
        Dialect { delimiter, first_row: skipped + n_header, header, rows, notes }
    }
}

/// The delimiter of a line `sep=;`, as spreadsheets write it.
fn separator_line(line: &str) -> Option<u8> {
    match line.trim().trim_matches('"').as_bytes() {
        [b's' | b'S', b'e' | b'E', b'p' | b'P', b'=', delimiter] => Some(*delimiter),
        _ => None,
    }
}

/// The number of lines before the first that has as many fields as a table needs; 0 where none has.
fn lines_above(lines: &[&str]) -> usize {
    let is_wide = |line: &&str| best_delimiter(line).1 >= FEWEST_FIELDS;
    lines
        .iter()
        .take(MOST_LINES_ABOVE)
        .position(is_wide)
        .unwrap_or_else(|| usize::from(lines.first().is_some_and(|line| separator_line(line).is_some())))
}

/// The delimiter that cuts a line into most fields, and how many those are.
fn best_delimiter(line: &str) -> (u8, usize) {
    let mut best = (b',', 0);
    for delimiter in DELIMITERS {
        let n_fields = fields(line, delimiter).len();
        if n_fields > best.1 {
            best = (delimiter, n_fields);
        }
    }
    best
}

/// The fields of a line, without quotes around them.
fn fields(line: &str, delimiter: u8) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut is_quoted = false;
    for c in line.chars() {
        match c {
            '"' => is_quoted = !is_quoted,
            c if c == char::from(delimiter) && !is_quoted => fields.push(String::new()),
            c => fields.last_mut().expect("there is always one").push(c),
        }
    }
    fields.iter().map(|field| field.trim().to_owned()).collect()
}

/// The names of the columns, and how many records they take.
fn header_of(records: &[Vec<String>]) -> (Header, usize) {
    let Some(first) = records.first() else { return (Header::Names(Vec::new()), 1) };
    if first.iter().filter(|field| is_number(field)).count() >= FEWEST_FIELDS - 1 {
        return (Header::Absent(first.len()), 0);
    }
    // pandas writes the name of the index on a line of its own below the levels, with nothing in the other columns.
    let is_index_line = |record: &Vec<String>| {
        record.len() == first.len() && !record[0].is_empty() && record[1..].iter().all(String::is_empty)
    };
    let Some(index_line) = records.get(2).filter(|record| is_index_line(record)) else {
        return (Header::Names(first.clone()), 1);
    };
    let second = &records[1];
    let holds_names = |level: &[String]| level.iter().any(|name| reduce(name) == "open");
    let (names, symbols) = if holds_names(first) { (first, second) } else { (second, first) };
    if names.len() != symbols.len() {
        return (Header::Names(first.clone()), 1);
    }
    let (mut names, mut symbols) = (names.clone(), symbols.clone());
    names[0].clone_from(&index_line[0]);
    symbols[0].clear();
    (Header::Levels { names, symbols }, 3)
}

/// Whether a field is a number, however its decimals and thousands are written.
fn is_number(field: &str) -> bool {
    let has_digit = field.bytes().any(|byte| byte.is_ascii_digit());
    has_digit
        && field
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b',' | b'-' | b'+' | b'e' | b'E' | b'\''))
}

/// Whether a field is a time such as `9:30` or `09:30:00`.
fn is_time_of_day(field: &str) -> bool {
    let mut parts = field.split(':');
    let is_part = |part: &str| matches!(part.len(), 1 | 2) && part.bytes().all(|byte| byte.is_ascii_digit());
    let n_parts = field.split(':').count();
    (2..=3).contains(&n_parts) && parts.all(is_part)
}

/// What a field looks like: its digits as 9, its letters as they are.
pub(super) fn shape(field: &str) -> String {
    field.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Header {
        Header::Names(text.split(',').map(str::to_owned).collect())
    }

    fn of(head: &str) -> Dialect {
        Dialect::of(head, None, false)
    }

    #[test]
    fn the_delimiter_is_the_one_that_cuts_the_header_into_most_fields() {
        for (delimiter, text) in [(b',', ","), (b';', ";"), (b'\t', "\t"), (b'|', "|")] {
            let head = "date,open,high,low,close\n2024,1,1,1,1\n".replace(',', text);
            let dialect = of(&head);
            assert_eq!((dialect.delimiter, dialect.first_row), (delimiter, 1));
            assert_eq!(dialect.header, names("date,open,high,low,close"));
        }
        let commas = of("04.03.2024 10:00;101,00;101,70;100,80;101,50;90,5\n");
        assert_eq!((commas.delimiter, commas.header), (b';', Header::Absent(6)));
    }

    #[test]
    fn lines_above_the_table_are_not_read_and_said() {
        let dialect = of("https://example.org\n\nunix,open,high,low,close\n1,1,1,1,1\n");
        assert_eq!((dialect.first_row, dialect.header), (2, names("unix,open,high,low,close")));
        assert_eq!(dialect.notes, ["the line `https://example.org` stands above the table: not read"]);
        let dialect = of("sep=;\ntime;open;high;low;close\n2024-01-01;1,5;1,5;1,5;1,5\n");
        assert_eq!((dialect.delimiter, dialect.first_row), (b';', 2));
        let told = Dialect::of("a,b,c,d,e\nf,open,high,low,close\n", Some(1), false);
        assert_eq!(told.header, names("f,open,high,low,close"));
    }

    #[test]
    fn a_file_without_a_header_is_known_by_its_numbers() {
        let dialect = of("1735689600,1.0,1.0,1.0,1.0,5\n");
        assert_eq!((dialect.header, dialect.first_row), (Header::Absent(6), 0));
        assert_eq!(dialect.rows.len(), 1);
        let told = Dialect::of("a,b,c,d,e\n1,1,1,1,1\n", None, true);
        assert_eq!((told.header, told.first_row), (Header::Absent(5), 1), "told names replace the file's");
    }

    #[test]
    fn two_levels_of_names_are_told_apart_in_either_order() {
        for head in [
            "Price,Close,Open\nTicker,ABC,DEF\nDatetime,,\n2025-01-02,1,2\n",
            "Ticker,ABC,DEF\nPrice,Close,Open\nDatetime,,\n2025-01-02,1,2\n",
        ] {
            // Five fields make a table; these have three and are told where they begin.
            let dialect = Dialect::of(head, Some(0), false);
            let Header::Levels { names, symbols } = dialect.header else { panic!("{:?}", dialect.header) };
            assert_eq!(names, ["Datetime", "Close", "Open"]);
            assert_eq!(symbols, ["", "ABC", "DEF"]);
            assert_eq!(dialect.first_row, 3);
        }
    }

    #[test]
    fn a_time_of_day_without_a_name_gets_one() {
        let dialect = of("Date,Open,High,Low,Close\n2024-03-04,09:01:00,1,1,1,1\n");
        assert_eq!(dialect.header, names("date,time,Open,High,Low,Close"));
        assert!(dialect.notes[0].contains("6 fields under 5 names"));
    }
}
