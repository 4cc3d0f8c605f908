//! Files of one market are one, wherever they lie and however they are cut, and what a run has learned from is never
//! taken for unseen.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;
use tests::{read_json, run, run_well, short_train, summary, weights_sha256};

const N_BARS: usize = 4_000;
const MINUTE_MILLIS: i64 = 60_000;

/// Lines of bars of `minutes` from `off` minutes past midnight on, without a header.
fn walk(n: usize, seed: u64, minutes: i64, off: i64) -> Vec<String> {
    let mut rng = Pcg64Mcg::seed_from_u64(seed);
    let mut price = 100.0f64;
    (0..n as i64)
        .map(|i| {
            let open = price;
            price = open * rng.random_range(-1e-3..1e-3f64).exp();
            let (high, low) = (open.max(price) * 1.0003, open.min(price) * 0.9997);
            let stamp = 1_709_510_400_000 + (i * minutes + off) * MINUTE_MILLIS;
            format!("{stamp},{open},{high},{low},{price},{}", rng.random_range(1..900))
        })
        .collect()
}

fn write(folder: &Path, name: &str, lines: &[String]) {
    fs::create_dir_all(folder.join(name).parent().unwrap()).unwrap();
    let text = format!("timestamp,open,high,low,close,volume\n{}\n", lines.join("\n"));
    fs::write(folder.join(name), text).unwrap();
}

fn train(folder: &Path, out: &str, files: &[&str]) -> String {
    let mut arguments = short_train(&["--steps", "640", "--out", out, "--data"]);
    arguments.extend(files);
    String::from_utf8_lossy(&run_well(folder, &arguments).stderr).into_owned()
}

#[test]
fn monthly_archives_in_any_order_give_the_weights_of_their_concatenation() {
    let folder = tempfile::tempdir().unwrap();
    let lines = walk(N_BARS, 1, 5, 0);
    write(folder.path(), "btc-2024-03.csv", &lines[..1_500]);
    write(folder.path(), "btc-2024-04.csv", &lines[1_400..3_000]);
    write(folder.path(), "btc-2024-05.csv", &lines[3_000..]);
    write(folder.path(), "whole.csv", &lines);
    let said = train(folder.path(), "parts", &["btc-2024-05.csv", "btc-2024-03.csv", "btc-2024-04.csv"]);
    assert!(said.contains("3 files") && said.contains("4,000 of 5 min"), "{said}");
    train(folder.path(), "whole", &["whole.csv"]);
    let [parts, whole] = ["parts", "whole"].map(|out| folder.path().join(out));
    assert!(summary(&whole)["learner_steps"].as_u64().unwrap() > 0);
    assert_eq!(weights_sha256(&parts), weights_sha256(&whole));
    assert_eq!(summary(&parts)["data_identity"], summary(&whole)["data_identity"]);
    let page = fs::read_to_string(parts.join("report.html")).unwrap();
    assert!(page.contains("overlap of 100 bars"), "the report tells the overlap");
}

#[test]
fn a_market_listed_later_has_no_training_and_the_same_test() {
    let folder = tempfile::tempdir().unwrap();
    let lines = walk(6_000, 2, 5, 0);
    write(folder.path(), "old.csv", &lines);
    write(folder.path(), "new.csv", &walk(6_000, 3, 5, 0)[3_500..]);
    let said = train(folder.path(), "out", &["old.csv", "new.csv"]);
    let row = said.lines().find(|line| line.trim_start().starts_with("new ")).unwrap();
    assert!(row.contains("no train") && !row.contains("no test"), "{said}");
}

#[test]
fn an_evaluation_judges_what_the_run_has_not_learned_from() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let lines = walk(N_BARS, 4, 5, 0);
    write(at, "btc.csv", &lines[..3_600]);
    train(at, "out", &["btc.csv"]);
    let own = summary(&at.join("out"));

    // The same bars under another name: the unseen part is the run's own test.
    write(at, "other_name.csv", &lines[..3_600]);
    let evaluate = |more: &[&str]| {
        let arguments: Vec<&str> = ["evaluate", "--run", "out", "--json", "out.json"]
            .into_iter()
            .chain(more.iter().copied())
            .collect();
        run(at, &arguments)
    };
    let output = evaluate(&["--data", "other_name.csv"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.starts_with("out of sample") && said.contains("the unseen part alone"), "{said}");
    let judged = read_json(&at.join("out.json"));
    assert_eq!(judged["agent"], own["test"]["agent"]);
    assert_eq!(judged["in_sample"], false);

    // More bars than the run had: those after what it learned from.
    write(at, "longer.csv", &lines);
    evaluate(&["--data", "longer.csv"]);
    let n_longer = read_json(&at.join("out.json"))["agent"]["n_bars"].as_u64().unwrap();
    assert_eq!(n_longer, own["test"]["agent"]["n_bars"].as_u64().unwrap() + 400);

    let output = evaluate(&["--data", "longer.csv", "--allow-seen"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.starts_with("IN SAMPLE"), "{said}");
    assert_eq!(read_json(&at.join("out.json"))["in_sample"], true);

    write(at, "seen.csv", &lines[..2_000]);
    let output = evaluate(&["--data", "seen.csv"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.lines().last().unwrap().contains("--allow-seen"), "{said}");

    // A market of its own needs one observation and a decision, and may be told how it is spelled.
    write(at, "eth.csv", &walk(1_268, 5, 5, 0));
    let output = evaluate(&["--data", "eth.csv", "--set", "data.label=end"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(read_json(&at.join("out.json"))["agent"]["n_bars"], 1);
    write(at, "eth.csv", &walk(1_267, 5, 5, 0));
    let output = evaluate(&["--data", "eth.csv"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("1,267 five-minute bars") && said.contains("1,268"), "{said}");
    assert_eq!(evaluate(&["--set", "run.seed=2"]).status.code(), Some(2));
}

#[test]
fn a_run_can_be_moved_with_its_bars_and_goes_on_with_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let lines = walk(N_BARS, 6, 5, 0);
    write(at, "btc.csv", &lines);
    train(at, "out", &["btc.csv"]);
    train(at, "moved", &["btc.csv"]);
    run_well(at, &["train", "--resume", "out", "--steps", "900"]);

    fs::create_dir(at.join("elsewhere")).unwrap();
    fs::rename(at.join("btc.csv"), at.join("elsewhere/bitcoin.csv")).unwrap();
    let output = run(at, &["train", "--resume", "moved", "--steps", "900"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && said.contains("give them with --data"), "{said}");
    write(at, "shorter.csv", &lines[..3_900]);
    let output = run(at, &["train", "--resume", "moved", "--steps", "900", "--data", "shorter.csv"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && said.contains("other bars"), "{said}");
    run_well(at, &["train", "--resume", "moved", "--steps", "900", "--data", "elsewhere/bitcoin.csv"]);
    assert_eq!(weights_sha256(&at.join("moved")), weights_sha256(&at.join("out")));
}

#[test]
fn no_feature_row_is_visible_before_its_bar_has_closed() {
    let folder = tempfile::tempdir().unwrap();
    for (minutes, off) in [(5, 2), (10, 5), (30, 15), (1, 0)] {
        write(folder.path(), "bars.csv", &walk(2_000, 7, minutes, off));
        let arguments = ["features", "--data", "bars.csv", "--out", "rows.csv", "--check"];
        let output = run_well(folder.path(), &arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("no row looks ahead"), "{minutes} minutes, {off} off: {said}");
        let text = fs::read_to_string(folder.path().join("rows.csv")).unwrap();
        let view = if minutes > 5 { "structure" } else { "tactical" };
        let first = text.lines().find(|line| line.starts_with(view)).unwrap();
        let width = if minutes > 5 { 30 } else { 5 };
        let mut expected = String::new();
        write!(expected, "{view},2024-03-04T00:{:02}:00Z,", width + off).unwrap();
        assert!(first.starts_with(&expected), "{first}");
    }
}

#[test]
fn a_jump_of_the_price_is_told_with_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let mut lines = walk(N_BARS, 8, 5, 0);
    for line in &mut lines[3_800..] {
        let cells: Vec<f64> = line.split(',').map(|cell| cell.parse().unwrap()).collect();
        let [stamp, prices @ .., volume] = cells.as_slice() else { panic!("{line}") };
        let prices: Vec<String> = prices.iter().map(|price| (price / 10.0).to_string()).collect();
        *line = format!("{stamp},{},{volume}", prices.join(","));
    }
    write(folder.path(), "split.csv", &lines);
    let said = train(folder.path(), "out", &["split.csv"]);
    assert!(said.contains("jumps by -90.0 %") && said.contains("2024-03-17 04:45 UTC"), "{said}");
    let summary = summary(&folder.path().join("out"));
    assert!(summary["test"]["flat"]["win_rate"].is_null(), "no trade was closed");
}
