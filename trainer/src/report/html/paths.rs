//! Paths without the folders that only one machine has.

use std::path::{Path, PathBuf};

/// `text` with the last part alone of each absolute path in it: one that begins a word or a quoted text.
pub(super) fn without_folders(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut before = ' ';
    while let Some(c) = rest.chars().next() {
        let is_path = c == '/' && !before.is_alphanumeric() && !matches!(before, '/' | '.' | ')' | '_' | '-');
        if !is_path {
            out.push(c);
            before = c;
            rest = &rest[c.len_utf8()..];
            continue;
        }
        // Inside of quotes a path may hold spaces.
        let ends: &[char] = match before {
            '"' => &['"', '?'],
            '\'' => &['\'', '?'],
            _ => &[' ', '\n', '"', '\'', '?', ',', ';', ':', ']', ')'],
        };
        let path = &rest[..rest.find(ends).unwrap_or(rest.len())];
        let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or(path);
        out.push_str(name);
        before = 'a';
        rest = &rest[path.len()..];
    }
    out
}

/// What is told of the data, one line per file: the notes that begin with a file's path are joined.
pub(super) fn lines_per_file(notes: &[String], files: &[PathBuf]) -> Vec<String> {
    let mut lines: Vec<(Option<&Path>, String)> = Vec::new();
    for note in notes {
        let of = |file: &&PathBuf| {
            note.strip_prefix(&*file.to_string_lossy()).is_some_and(|rest| rest.starts_with(": "))
        };
        let file = files.iter().find(of).map(PathBuf::as_path);
        let told = match file {
            Some(file) => &note[file.to_string_lossy().len() + 2..],
            None => note,
        };
        match lines.iter_mut().find(|(other, _)| file.is_some() && *other == file) {
            Some((_, line)) => {
                line.push_str("; ");
                line.push_str(told);
            }
            None => lines.push((
                file,
                file.map_or_else(|| told.to_owned(), |file| format!("{}: {told}", name_of(file))),
            )),
        }
    }
    let mut lines: Vec<String> = lines.into_iter().map(|(_, line)| line).collect();
    for line in &mut lines {
        for file in files {
            *line = line.replace(&*file.to_string_lossy(), &name_of(file));
        }
        *line = without_folders(line);
    }
    lines
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_paths_lose_their_folders_and_nothing_else_changes() {
        for (text, wanted) in [
            ("/opt/bin/plimsoll train --data /home/me/a.csv b.csv", "plimsoll train --data a.csv b.csv"),
            ("files = [\"/home/my data/a b.csv\", \"c/d.csv\"]", "files = [\"a b.csv\", \"c/d.csv\"]"),
            (
                "--data \'/x/a.csv?zone=America/New_York\' --out /runs/one/",
                "--data \'a.csv?zone=America/New_York\' --out one",
            ),
            ("1,503/s and 2/3, spill_folder = \"\"", "1,503/s and 2/3, spill_folder = \"\""),
        ] {
            assert_eq!(without_folders(text), wanted);
        }
    }

    #[test]
    fn every_file_has_one_line() {
        let files = [PathBuf::from("/data/a b.csv"), PathBuf::from("/data/c.csv")];
        let notes = [
            "BTC: /data/a b.csv; 3 bars",
            "/data/a b.csv: stamps end bars",
            "/data/c.csv: no gaps",
            "/data/a b.csv: no gaps",
        ];
        let lines = lines_per_file(&notes.map(str::to_owned), &files);
        assert_eq!(lines, ["BTC: a b.csv; 3 bars", "a b.csv: stamps end bars; no gaps", "c.csv: no gaps"]);
    }
}
