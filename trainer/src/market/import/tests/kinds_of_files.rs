//! The kinds of files that people have: dirty rows, several instruments, packed and typed formats.

use super::*;

#[test]
fn dirty_rows_are_counted_by_kind_with_the_first_lines_of_each() {
    let mut lines: Vec<String> =
        (0..12).map(|minute| format!("2020-01-01 00:{minute:02}:00,1,1,1,1,1")).collect();
    for (at, numbers) in
        [(2, "NaN,,null,1,1"), (3, "1,1,1,,1"), (4, ",,,,"), (5, "1,1,1,1,"), (7, "1,2,3,1,1")]
    {
        lines[at] = format!("2020-01-01 00:{at:02}:00,{numbers}");
    }
    lines[9] = "2020-01-01 00:09:00,1,1,1,1".to_owned();
    let content = rows(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    check_refused(
        &content,
        "bars.csv:4: `open` is NaN; --set data.missing=drop leaves such rows out and counts them; 6 of 12 rows cannot be \
         used: 4 without numbers (NaN, null or empty) (lines 4, 5, 6, …), 1 whose prices or volume cannot be (line 9), 1 \
         with another number of columns (line 11)",
        "",
    );
    let drop = SourceOptions { missing: Some(Missing::Drop), ..SourceOptions::default() };
    let error = import_text(&content, &drop).unwrap_err().to_string();
    assert!(error.contains("2 of 12 rows cannot be used"), "{error}");
    lines[7] = "2020-01-01 00:07:00,1,1,1,1,1".to_owned();
    lines[9] = "2020-01-01 00:09:00,1,1,1,1,1".to_owned();
    let imported = import_text(rows(&lines.iter().map(String::as_str).collect::<Vec<_>>()), &drop).unwrap();
    assert_eq!((imported.bars.bars.len(), imported.dirty.n_rows()), (8, 4));
    assert!(imported.notes.iter().any(|note| note.starts_with("4 rows dropped, as told: 4 without")));
}

#[test]
fn a_file_of_several_instruments_gives_each_its_bars_however_they_are_mixed() {
    let bar = |symbol: &str, minute: u32, price: f64| {
        format!("{symbol},2020-01-01 00:{minute:02},{price},{price},{price},{price},1\n")
    };
    let header = "symbol,timestamp,open,high,low,close,volume\n";
    let interleaved: String = (0..4).map(|i| bar("A", i, 1.0) + &bar("B", i, 2.0)).collect();
    let blocks: String = (0..4).map(|i| bar("A", i, 1.0)).chain((0..4).map(|i| bar("B", i, 2.0))).collect();
    let untraded = interleaved.clone() + &bar("C", 1, 3.0);
    for content in [interleaved, blocks, untraded] {
        let (_folder, path) = write("bars.csv", format!("{header}{content}"));
        let imported = import(&Source { path, options: SourceOptions::default() }).unwrap();
        let told: Vec<(&str, usize, f64)> = imported
            .iter()
            .map(|one| (one.bars.name.as_str(), one.bars.bars.len(), one.bars.bars[3].open))
            .collect();
        assert_eq!(told, [("A", 4, 1.0), ("B", 4, 2.0)]);
        let has_c = content.contains('C');
        let said =
            imported[0].notes.iter().any(|note| note.starts_with("1 instruments with fewer than two bars"));
        assert_eq!(said, has_c, "{:?}", imported[0].notes);
    }
}

#[test]
fn stamps_that_repeat_without_a_column_of_symbols_look_like_several_instruments() {
    let content = rows(&[GOOD[0], "2020-01-01 00:00:00,1,1,1,1,1", GOOD[1], "2020-01-01 00:01:00,1,1,1,1,1"]);
    check_refused(&content, "bars.csv:3: duplicate stamp", "this looks like several instruments");
    let blocks = rows(&[GOOD[0], GOOD[1], GOOD[2], GOOD[0], GOOD[1], GOOD[2]]);
    check_refused(&blocks, "bars.csv:5: time runs backward", "if these are several instruments");
}

#[test]
fn a_file_whose_newest_row_comes_first_is_turned_round() {
    let plain = import_text(rows(&GOOD), &SourceOptions::default()).unwrap();
    let turned = import_text(rows(&[GOOD[2], GOOD[1], GOOD[0]]), &SourceOptions::default()).unwrap();
    assert_eq!(plain.bars, turned.bars);
    assert!(turned.notes.contains(&"the newest row comes first: turned round".to_owned()));
}

#[test]
fn packed_and_utf16_text_is_read_as_it_is() {
    let plain = import_text(rows(&GOOD), &SourceOptions::default()).unwrap();
    let text = rows(&GOOD);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, text.as_bytes()).unwrap();
    let utf16 = |mark: &[u8], unit: fn(u16) -> [u8; 2]| {
        [mark.to_vec(), text.encode_utf16().flat_map(unit).collect()].concat()
    };
    for content in [
        gzip.finish().unwrap(),
        zstd::encode_all(text.as_bytes(), 1).unwrap(),
        utf16(b"\xff\xfe", u16::to_le_bytes),
        utf16(b"\xfe\xff", u16::to_be_bytes),
        utf16(b"", u16::to_le_bytes),
    ] {
        assert_eq!(import_text(content, &SourceOptions::default()).unwrap().bars, plain.bars);
    }
}

#[test]
fn json_is_read_as_lists_and_as_objects_in_one_list_or_a_row_on_each_line() {
    let plain = import_text(
        "date,open,high,low,close,volume\n1577836800000,1,2,0.5,1.5,3\n1577836860000,1,1,1,1,0\n",
        &SourceOptions::default(),
    )
    .unwrap();
    let object = |millis: i64, numbers: &str| format!("{{\"date\": {millis}, {numbers}}}");
    let first = object(
        1_577_836_800_000,
        "\"open\": 1, \"high\": \"2\", \"low\": 0.5, \"close\": 1.5, \"volume\": 3",
    );
    let second =
        object(1_577_836_860_000, "\"volume\": 0, \"open\": 1, \"high\": 1, \"low\": 1, \"close\": 1.0");
    let lists = ["[1577836800000, 1, 2, 0.5, 1.5, 3]", "[1577836860000,1,1,1,1,0.0]"];
    for content in [
        format!("[{},{}]", lists[0], lists[1]),
        format!("{}\n{}\n", lists[0], lists[1]),
        format!("[\n {first},\n {second}\n]\n"),
        format!("{first}\n{second}"),
    ] {
        let imported = import_text(&content, &SourceOptions::default()).unwrap();
        assert_eq!(imported.bars, plain.bars, "{content}");
    }
    check_refused("[[1577836800000,1,1,1,1,1],", "bars.csv:2: the list of rows is cut off", "fetch");
    check_refused("[[1577836800000,1,1,1,1,1],[1577836860000,1", "bars.csv:2: the row does not end", "");
    check_refused("{\"date\": 1577836800000}", "bars.csv: no column for `open`", "");
    check_refused("[]", "bars.csv: holds no rows", "");
}

#[test]
fn feather_is_read_as_parquet_is() {
    let columns = table(Arc::new(TimestampSecondArray::from(SECONDS.to_vec())));
    let batch = RecordBatch::try_from_iter(columns.iter().cloned()).unwrap();
    let mut bytes = Vec::new();
    let mut writer = arrow_ipc::writer::FileWriter::try_new(&mut bytes, &batch.schema()).unwrap();
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
    drop(writer);
    let (_folder, feather) = write("bars.feather", &bytes);
    let (_other, parquet) = write("bars.parquet", parquet_bytes(&columns));
    let options = SourceOptions::default();
    assert_eq!(import_one(&feather, &options).unwrap().bars, import_one(&parquet, &options).unwrap().bars);
    for n in (8..bytes.len()).step_by(7) {
        let (_folder, path) = write("bars.feather", &bytes[..n]);
        assert!(import_one(&path, &options).unwrap_err().is_usage(), "{n}");
    }
}

#[test]
fn volume_may_be_absent_minus_one_or_counted_in_ticks() {
    let read = |header: &str, [first, second]: [&str; 2]| {
        let text = format!("{header}\n2020-01-01 00:00,1,1,1,1{first}\n2020-01-01 00:01,1,1,1,1{second}\n");
        let imported = import_text(text, &SourceOptions::default()).unwrap();
        (imported.bars.bars.iter().map(|bar| bar.volume).collect::<Vec<_>>(), imported.notes.join("; "))
    };
    for (header, rows, volumes, said) in [
        ("timestamp,open,high,low,close", ["", ""], [0.0, 0.0], "there is no column of volume"),
        ("timestamp,open,high,low,close,volume", [",-1.0", ",-1"], [0.0, 0.0], "`volume` is -1 in every row"),
        ("timestamp,open,high,low,close,volume", [",", ",NaN"], [0.0, 0.0], "`volume` is empty in every row"),
        (
            "timestamp,open,high,low,close,tickvol,vol",
            [",5,0", ",7,0"],
            [5.0, 7.0],
            "the number of ticks, taken",
        ),
        ("timestamp,open,high,low,close,tickvol,vol", [",5,0", ",7,2"], [0.0, 2.0], "volume = `vol`"),
    ] {
        let (read, notes) = read(header, rows);
        assert!(read == volumes && notes.contains(said), "{header}: {read:?} {notes}");
    }
}

#[test]
fn a_refusal_stands_in_one_line_whatever_the_cells_hold() {
    check_refused(rows(&[GOOD[0], "2020-01-01 00:01,1,1,1,\"a\nb\",1"]), "bars.csv:", "");
    check_refused("\"time\nof\",open,high,low,close\n2020-01-01,1,1,1,1\n", "bars.csv", "");
}

#[test]
fn a_second_header_is_skipped_and_said() {
    let content = rows(&[GOOD[0], GOOD[1], HEADER.trim_end(), GOOD[2]]);
    let imported = import_text(content, &SourceOptions::default()).unwrap();
    assert_eq!(imported.bars.bars.len(), 3);
    let said = "line 4 is a second header: not read";
    assert!(imported.notes.iter().any(|note| note == said), "{:?}", imported.notes);
}

#[test]
fn a_file_without_a_header_is_read_under_told_names() {
    let content = "1577836800,1,1,1,1,x\n1577836860,1,1,1,1,x\n";
    let header = "t,o,h,l,c,note".split(',').map(str::to_owned).collect();
    let told = SourceOptions { header, ..SourceOptions::default() };
    assert_eq!(import_text(content, &told).unwrap().bars.bars.len(), 2);
    // In another vendor's order the open would be below the low.
    let refused = refusal("1577836800,2,3,1,2.5,5\n1577836860,2,3,1,2.5,5\n");
    assert!(refused.contains("?header=timestamp,open,high,low,close,volume'"), "{refused}");
}
