use std::path::Path;

use super::*;

fn stamps(format: Option<&str>, zone: Option<&str>) -> Result<Stamps> {
    Stamps::new(&SourceOptions {
        time_format: format.map(str::to_owned),
        zone: zone.map(str::to_owned),
        ..SourceOptions::default()
    })
}

fn utc(stamps: &mut Stamps, text: &str) -> std::result::Result<String, String> {
    stamps.read_text(text).map(|millis| Timestamp::from_millisecond(millis).unwrap().to_string())
}

/// The instants of all stamps of a file, and the notes on them; or the stamp at fault and its problem.
fn read(source: &str, texts: &[&str]) -> std::result::Result<(Vec<String>, Vec<String>), (usize, String)> {
    let source = Source::from_text(Path::new(source)).unwrap();
    let mut stamps = Stamps::new(&source.options).map_err(|error| (0, error.to_string()))?;
    stamps.survey(&source, texts.iter().copied()).map_err(|fault| (fault.index, fault.problem))?;
    let read: std::result::Result<Vec<String>, _> = texts
        .iter()
        .enumerate()
        .map(|(i, text)| utc(&mut stamps, text).map_err(|problem| (i, problem)))
        .collect();
    Ok((read?, stamps.notes()))
}

fn check_plain(texts: &[&str], expected: &[&str], note: &str) {
    let (read, notes) = read("bars.csv", texts).unwrap();
    assert_eq!(read, expected, "{texts:?}");
    assert!(notes.iter().any(|n| n.contains(note)), "{note}: {notes:?}");
}

/// The sources that a message says to type.
fn suggestions(message: &str) -> Vec<String> {
    message.split("--data '").skip(1).map(|rest| rest[..rest.find('\'').unwrap()].to_owned()).collect()
}

/// Follows every suggestion of a refusal: each must read every stamp. The first instants that they give.
fn check_told(texts: &[&str], expected_firsts: &[&str]) -> String {
    let (index, problem) = read("bars.csv", texts).unwrap_err();
    assert!(index < texts.len() && !problem.contains('\n'), "{problem}");
    let firsts: Vec<String> =
        suggestions(&problem).iter().map(|source| read(source, texts).unwrap().0[0].clone()).collect();
    assert_eq!(firsts, expected_firsts, "{texts:?}: {problem}");
    problem
}

#[test]
fn stamps_that_say_all_are_read_without_a_word() {
    let utc = ["2024-03-04T10:00:00Z", "2024-03-04T10:01:00Z"];
    for (texts, note) in [
        (["2024-03-04 10:00", "2024-03-04 10:01"], "they name no zone: taken as UTC"),
        (["2024-03-04T10:00:00Z", "2024-03-04T10:01:00Z"], "instant of its own"),
        (["2024-03-04 10:00:00 UTC", "2024-03-04 10:01:00 UTC"], "they name UTC"),
        (["20240304T100000Z", "20240304T100100Z"], "they name UTC"),
        (["20240304T100000", "20240304T100100"], "they name no zone: taken as UTC"),
        (["20240304 05:00:00 US/Eastern", "20240304 05:01:00 US/Eastern"], "instant of its own"),
        (["20240304 05:00:00 America/New_York", "20240304 05:01:00 America/New_York"], "%Q"),
        (["04.03.2024 11:00:00.000 GMT+0100", "04.03.2024 11:01:00.000 GMT+0100"], "day first"),
        (["04.03.2024 10:00", "04.03.2024 10:01"], "day first"),
        (["04-Mar-2024 05:00 -0500", "04-Mar-2024 05:01 -0500"], "%d-%b-%Y %H:%M %z"),
        (["Mar 4, 2024 10:00 AM GMT", "Mar 4, 2024 10:01 AM GMT"], "they name UTC"),
        (["1709546400", "1709546460"], "seconds since 1970"),
        (["1709546400000000000", "1709546460000000000"], "nanoseconds since 1970"),
    ] {
        check_plain(&texts, &utc, note);
    }
}

#[test]
fn a_told_zone_is_all_that_a_spelling_without_a_choice_needs() {
    let (read, notes) =
        read("bars.csv?zone=America/New_York", &["20240304 050000", "20240304 050100"]).unwrap();
    assert_eq!(read, ["2024-03-04T10:00:00Z", "2024-03-04T10:01:00Z"]);
    assert!(notes[0].contains("%Y%m%d %H%M%S") && notes[1].contains("read in America/New_York"), "{notes:?}");
}

#[test]
fn a_told_zone_does_not_move_stamps_that_name_theirs() {
    for text in ["2024-03-04 10:00:00 UTC", "20240304 05:00:00 US/Eastern", "2024-03-04 11:00+01:00"] {
        let (read, notes) = read("bars.csv?zone=Asia/Tokyo", &[text]).unwrap();
        assert_eq!(read, ["2024-03-04T10:00:00Z"]);
        assert!(notes[1].contains("\"Asia/Tokyo\" not needed"), "{notes:?}");
    }
}

#[test]
fn a_spelling_without_a_zone_is_refused_with_one_suggestion_that_reads_every_stamp() {
    for texts in [
        ["20240304093000", "20240304093500"],
        ["202403040930", "202403040935"],
        ["20240304 0930", "20240304 0935"],
        ["04-Mar-2024 09:30", "04-Mar-2024 09:35"],
        ["04Mar2024 9:30", "04Mar2024 9:35"],
        ["March 4, 2024 9:30 AM", "March 4, 2024 9:35 AM"],
        ["2024-03-04 9:30", "2024-03-04 10:35"],
        ["2024/03/04 09:30", "2024/03/04 09:35"],
        ["2024-03-04 9:30:00 AM", "2024-03-04 9:35:00 AM"],
        ["2024-03-04 09:30:00:000", "2024-03-04 09:35:00:250"],
        ["3/4/2024 9:30", "3/13/2024 9:35"],
    ] {
        let problem = check_told(&texts, &["2024-03-04T09:30:00Z"]);
        assert!(problem.contains("zone=UTC") && problem.contains("if it is another"), "{problem}");
        assert!(problem.contains("from 2024-03-04 to 2024-03-"), "{problem}");
    }
    let problem = check_told(&["2024-03-04 9:30 EST", "2024-03-04 9:35 EST"], &["2024-03-04T14:30:00Z"]);
    assert!(problem.contains("zone=America/New_York"), "{problem}");
}

#[test]
fn where_day_and_month_cannot_be_told_apart_both_readings_are_shown_with_their_dates() {
    let texts = ["3/4/2024 1:00 PM", "3/4/2024 1:05 PM", "3/8/2024 2:55 PM"];
    let problem = check_told(&texts, &["2024-03-04T13:00:00Z", "2024-04-03T13:00:00Z"]);
    for said in [
        "month first, from 2024-03-04 to 2024-03-08",
        "day first, from 2024-04-03 to 2024-08-03",
        "'bars.csv?zone=UTC&time_format=%d/%m/%Y %I:%M %p'",
    ] {
        assert!(problem.contains(said), "{said}: {problem}");
    }
    check_told(
        &["03-04-24 10:00", "05-04-24 10:05"],
        &["2024-03-04T10:00:00Z", "2024-04-03T10:00:00Z", "2003-04-24T10:00:00Z"],
    );
}

#[test]
fn an_order_in_which_time_would_run_both_ways_is_not_suggested() {
    let texts = ["3/12/2024 10:00", "4/1/2024 10:00", "4/2/2024 10:00"];
    let problem = check_told(&texts, &["2024-03-12T10:00:00Z"]);
    assert!(problem.contains("%m/%d/%Y"), "{problem}");
    check_told(&["03.12.2024 10:00", "04.01.2024 10:00", "04.02.2024 10:00"], &["2024-03-12T10:00:00Z"]);
}

#[test]
fn what_was_told_of_a_file_stays_in_its_suggestions() {
    let (_, problem) = read("bars.csv?label=end&decimal=comma", &["20240304093000"]).unwrap_err();
    let source = "bars.csv?label=end&zone=UTC&time_format=%Y%m%d%H%M%S&decimal=comma";
    assert_eq!(suggestions(&problem), [source]);
    let (_, problem) = read("bars.csv?zone=Asia/Tokyo", &["3/4/2024 10:00", "4/4/2024 10:00"]).unwrap_err();
    assert!(suggestions(&problem).iter().all(|source| source.contains("zone=Asia/Tokyo")), "{problem}");
}

#[test]
fn mixed_spellings_are_refused_with_formats_that_read_both() {
    for (first, second, n_ways) in [
        ("2020-01-01 00:00", "2020-01-01T00:01", 1),
        ("2020-01-01 00:00", "2020-01-01 00:01:00", 1),
        ("2020-01-01 00:00", "2020-01-01 00:01Z", 1),
        ("2020-01-01", "2020-01-01 00:01", 1),
        ("1577836800", "1577836860000", 0),
        ("2020-01-01 00:00", "01/01/2020 00:01", 2),
        ("2020-01-01 00:00", "noon", 0),
    ] {
        let (index, problem) = read("bars.csv", &[first, second]).unwrap_err();
        assert_eq!(index, 1);
        assert!(problem.contains(first) && problem.contains(second), "{problem}");
        let sources = suggestions(&problem);
        assert_eq!(sources.len(), n_ways, "{problem}");
        for source in sources {
            let (read, _) = read(&source, &[first, second]).unwrap();
            assert_eq!(read, ["2020-01-01T00:00:00Z", "2020-01-01T00:01:00Z"], "{source}");
        }
    }
    let mut stamps = stamps(None, None).unwrap();
    stamps.read_text("2020-01-01T00:00:00").unwrap();
    stamps.read_text("2020-01-01T00:01:00.500").unwrap();
    assert!(stamps.read_text("2020-01-01 00:02:00").unwrap_err().contains("mixed spellings"));
}

#[test]
fn stamps_of_no_known_spelling_are_refused_without_a_suggestion() {
    for (texts, said) in [
        (["44011.5", "44011.6"], "a spreadsheet's count of days"),
        (["1.73569E+12", "1.73569E+12"], "a spreadsheet has rounded it"),
        (["yesterday", "today"], "strptime's letters"),
        (["20240304 93000", "20240304 100000"], "strptime's letters"),
        (["2024-03-04 10:00 EST", "2024-03-04 10:01 JST"], "several zones"),
    ] {
        let problem = check_told(&texts, &[]);
        assert!(problem.contains(said), "{problem}");
    }
}

#[test]
fn autumns_repeated_hour_is_read_so_that_time_runs_on() {
    let times = ["00:30", "01:00", "01:30", "01:00", "01:30", "02:00"];
    let texts = times.map(|time| format!("2024-11-03 {time}"));
    let mut texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let expected = ["04:30", "05:00", "05:30", "06:00", "06:30", "07:00"];
    let mut expected = expected.map(|time| format!("2024-11-03T{time}:00Z"));
    let (forward, notes) = read("bars.csv?zone=America/New_York", &texts).unwrap();
    assert_eq!(forward, expected);
    assert!(notes.iter().any(|note| note.starts_with("4 stamps fall into the hour")), "{notes:?}");
    texts.reverse();
    expected.reverse();
    assert_eq!(read("bars.csv?zone=America/New_York", &texts).unwrap().0, expected, "newest first");
    let named =
        texts.iter().rev().map(|text| format!("{text} US/Eastern").replace('-', "")).collect::<Vec<_>>();
    let named: Vec<&str> = named.iter().map(String::as_str).collect();
    expected.reverse();
    assert_eq!(read("bars.csv", &named).unwrap().0, expected, "the zone in the stamp");
}

#[test]
fn a_third_pass_through_the_repeated_hour_does_not_run_forward() {
    let mut stamps = stamps(None, Some("America/New_York")).unwrap();
    let read: Vec<i64> = (0..3).map(|_| stamps.read_text("2024-11-03 01:00").unwrap()).collect();
    assert!(read[0] < read[1]);
    assert_eq!(read[1], read[2], "the caller refuses it as a duplicate");
}

#[test]
fn springs_skipped_hour_is_refused() {
    let mut stamps = stamps(None, Some("Europe/Berlin")).unwrap();
    let error = utc(&mut stamps, "2024-03-31 02:30:00").unwrap_err();
    assert!(error.contains("Europe/Berlin never showed 2024-03-31T02:30:00"), "{error}");
    let texts =
        ["20240310 01:59:00 US/Eastern", "20240310 02:00:00 US/Eastern", "20240310 03:00:00 US/Eastern"];
    let (index, error) = read("bars.csv", &texts).unwrap_err();
    assert!(index == 1 && error.contains("US/Eastern never showed 2024-03-10T02:00:00"), "{error}");
}

#[test]
fn stamps_finer_than_a_millisecond_are_rounded_and_told() {
    let texts = ["2024-03-04 10:00:00.000000128Z", "2024-03-04 10:00:59.999999872Z"];
    check_plain(&texts, &["2024-03-04T10:00:00Z", "2024-03-04T10:01:00Z"], "2 stamps are finer");
    check_plain(&["1709546400000000128"], &["2024-03-04T10:00:00Z"], "1 stamps are finer");
}

#[test]
fn several_told_spellings_are_read_with_one_and_two_digits() {
    let format = "%d/%m/%Y %H:%M:%S|%d/%m/%Y %H:%M";
    let mut stamps = stamps(Some(format), Some("Asia/Jerusalem")).unwrap();
    assert_eq!(utc(&mut stamps, "29/06/2020 01:00:00").unwrap(), "2020-06-28T22:00:00Z");
    assert_eq!(utc(&mut stamps, "2/7/2025 9:30").unwrap(), "2025-07-02T06:30:00Z");
    assert!(utc(&mut stamps, "13/13/2020 1:00").is_err());
}

#[test]
fn a_told_format_that_does_not_fit_is_refused_with_the_one_that_does() {
    let source = "bars.csv?zone=Asia/Jerusalem&time_format=%d/%m/%Y %H:%M:%S";
    let texts = ["29/06/2020 01:00:00", "2/7/2025 9:30"];
    let (index, problem) = read(source, &texts).unwrap_err();
    assert_eq!(index, 1);
    let sources = suggestions(&problem);
    assert_eq!(sources, ["bars.csv?zone=Asia/Jerusalem&time_format=%d/%m/%Y %H:%M:%S|%d/%m/%Y %H:%M"]);
    assert_eq!(read(&sources[0], &texts).unwrap().0, ["2020-06-28T22:00:00Z", "2025-07-02T06:30:00Z"]);
}

#[test]
fn told_spellings_that_disagree_on_a_stamp_are_refused() {
    let mut stamps = stamps(Some("%d/%m/%Y|%m/%d/%Y"), Some("UTC")).unwrap();
    assert_eq!(utc(&mut stamps, "13/2/2020").unwrap(), "2020-02-13T00:00:00Z");
    assert!(utc(&mut stamps, "3/2/2020").unwrap_err().contains("disagree"));
}

#[test]
fn an_offset_or_a_zone_in_the_format_needs_no_zone() {
    let mut offset = stamps(Some("%Y%m%d %H%M%S %z"), None).unwrap();
    assert_eq!(utc(&mut offset, "20200629 010000 +0300").unwrap(), "2020-06-28T22:00:00Z");
    assert_eq!(offset.notes()[1], "every stamp is an instant of its own");
    let mut named = stamps(Some("%Y%m%d %H:%M %Q"), None).unwrap();
    assert_eq!(utc(&mut named, "20200629 01:00 Asia/Jerusalem").unwrap(), "2020-06-28T22:00:00Z");
    assert!(utc(&mut named, "20200629 01:00 Asia/Jerusalm").is_err());
}

#[test]
fn formats_and_zones_that_cannot_be_are_refused() {
    let error = |format: &str, zone: Option<&str>| stamps(Some(format), zone).err().unwrap().to_string();
    assert!(error("%d/%m/%Y %H:%M", None).starts_with("data.zone: "));
    for format in ["%H:%M", "%m/%d %H:%M", "%d/%m/%Y %!", "", "%Y-%m-%d|", "%Y-%m-%d %L"] {
        let error = error(format, Some("UTC"));
        assert!(error.starts_with("data.time_format: "), "{format}: {error}");
    }
    let near = error("%d/%m/%Y", Some("Asia/Jerusalm"));
    assert_eq!(near, "data.zone: no zone is named `Asia/Jerusalm`; `Asia/Jerusalem` looks near");
}

#[test]
fn a_year_that_no_bar_is_in_is_refused() {
    let mut stamps = stamps(Some("%d/%m/%Y"), Some("UTC")).unwrap();
    assert!(stamps.read_text("29/06/20").unwrap_err().contains("1900"));
}
