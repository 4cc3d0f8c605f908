//! The program trains on real bars. Bars that it cannot use are refused with the setting that helps.

use tests::{real_bars, run, run_well, short_train, summary};

fn train(files: &[&str], more: &[&str]) {
    let Some(paths) = files.iter().map(|name| real_bars(name)).collect::<Option<Vec<_>>>() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut arguments = short_train(&["--steps", "640", "--out", "out"]);
    arguments.extend(more);
    arguments.push("--data");
    arguments.extend(paths.iter().map(|path| path.to_str().unwrap()));
    run_well(folder.path(), &arguments);
    let summary = summary(&folder.path().join("out"));
    assert!(summary["learner_steps"].as_u64().unwrap() > 0);
    assert!(summary["test"]["agent"]["total_return"].is_number());
}

#[test]
fn a_perpetual_of_minute_bars_trains() {
    train(&["btc_perp_1m.csv"], &["--set", "data.label=end"]);
}

#[test]
fn a_future_with_sessions_and_gaps_trains() {
    train(&["6eh4_1m.csv"], &["--set", "data.label=end"]);
}

#[test]
fn several_instruments_train_together() {
    let names = ["ada", "dash", "etc", "eth", "ltc", "nxt", "trx", "xlm", "xmr", "zec"];
    let files: Vec<String> = names.iter().map(|name| format!("crypto_5m/{name}_btc_5m.csv")).collect();
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    train(&files, &[]);
}

#[test]
fn bars_with_mixed_dates_are_refused_with_the_setting_that_helps() {
    let Some(path) = real_bars("nq_30m_mixed_dates.csv") else { return };
    let path = path.to_str().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let check = |more: &[&str], words: &[&str]| {
        let mut arguments = vec!["train", "--out", "out", "--data", path];
        arguments.extend(more);
        let output = run(folder.path(), &arguments);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}");
        for word in words {
            assert!(text.lines().last().unwrap().contains(word), "`{word}` is not in: {text}");
        }
    };
    check(&[], &["nq_30m_mixed_dates.csv:2", "time_format=%d/%m/%Y %H:%M:%S|%d/%m/%Y %H:%M'"]);
    let told = [
        "--set",
        "data.time_format=%d/%m/%Y %H:%M:%S|%d/%m/%Y %H:%M",
        "--set",
        "data.zone=Asia/Jerusalem",
        "--set",
        "data.label=start",
    ];
    check(&told, &["30", "5-minute"]);
    let mut features = vec!["features", "--data", path, "--out", "rows.csv"];
    features.extend(told);
    run_well(folder.path(), &features);
    assert!(std::fs::read_to_string(folder.path().join("rows.csv")).unwrap().lines().count() > 56_000);
}
