//! The test of a run is told with its errors, its floor, its parts and its data, and as seen before where it was.

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::record::RowAccessor;
use serde_json::Value;
use tests::{run_well, short_train, summary};

/// The numbers of a column of `test.parquet` by policy: the sum, and how many there are.
fn sum_of(path: &std::path::Path, policy: &str, column: usize) -> (f64, usize) {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    let reader = SerializedFileReader::new(std::fs::File::open(path).unwrap()).unwrap();
    let rows = reader.get_row_iter(None).unwrap().map(Result::unwrap);
    let of_policy = rows.filter(|row| row.get_string(1).unwrap() == policy);
    let numbers: Vec<f64> = of_policy.filter_map(|row| row.get_double(column).ok()).collect();
    (numbers.iter().sum(), numbers.len())
}

#[test]
fn the_test_is_data_with_errors_and_parts() {
    let folder = tempfile::tempdir().unwrap();
    // Costs so high that the random baseline falls below the floor.
    let more = ["--steps", "700", "--out", "out", "--set", "account.commission_bps=20"];
    run_well(folder.path(), &short_train(&more));
    let out = folder.path().join("out");
    let summary = summary(&out);
    let test = &summary["test"];

    // Rewards sum to the log return and costs to the costs, in the file as in the summary.
    let path = out.join("test.parquet");
    let columns: Vec<String> = {
        let file = std::fs::File::open(&path).unwrap();
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        builder.schema().fields().iter().map(|field| field.name().clone()).collect()
    };
    let wanted =
        "time policy instrument price position equity reward_bps cost value_short value_flat value_long";
    assert_eq!(columns.join(" "), wanted);
    for policy in ["agent", "flat", "buy_and_hold", "random", "last_half_hour", "oracle"] {
        let (rewards, n) = sum_of(&path, policy, 6);
        let (costs, _) = sum_of(&path, policy, 7);
        assert_eq!(n as u64, test[policy]["n_bars"].as_u64().unwrap() + 1, "{policy}");
        assert!((rewards * 1e-4 - test[policy]["log_return"].as_f64().unwrap()).abs() < 1e-9, "{policy}");
        assert!((costs / 1e4 - test[policy]["cost"].as_f64().unwrap()).abs() < 1e-9, "{policy}: {costs}");
    }
    let trades = std::fs::read_to_string(out.join("trades.csv")).unwrap();
    let n_random = trades.lines().filter(|line| line.starts_with("random,")).count();
    assert_eq!(n_random as u64, test["random"]["trades"].as_u64().unwrap());

    // Who was stopped is told with the time, and stands beside itself without the floor.
    assert!(
        test["random"]["stopped_by_equity_floor"][0]["time"].as_str().is_some_and(|time| time.ends_with('Z'))
    );
    assert!(test["flat"].get("stopped_by_equity_floor").is_none());
    let (floored, free) = (&test["random"]["log_return"], &test["random_without_floor"]["log_return"]);
    assert!(free.as_f64().unwrap() < floored.as_f64().unwrap() && floored.as_f64().unwrap() < 0.5_f64.ln());

    // Errors, excess, months, costs and what it was made by.
    let [low, high] = [0, 1].map(|end| test["buy_and_hold"]["sharpe_interval"][end].as_f64().unwrap());
    assert!(low < test["buy_and_hold"]["sharpe"].as_f64().unwrap() && high > low);
    assert!(test.get("excess_over_buy_and_hold").is_some() && test["agent_last"]["log_return"].is_number());
    let details = &summary["test_details"];
    let growth = |month: &Value| 1.0 + month["total_return"]["buy_and_hold"].as_f64().unwrap();
    let whole: f64 = details["by_month"].as_array().unwrap().iter().map(growth).product();
    assert!((whole - 1.0 - test["buy_and_hold"]["total_return"].as_f64().unwrap()).abs() < 1e-9);
    assert_eq!(details["at_costs"].as_array().unwrap().len(), 4);
    assert_eq!(summary["version"], env!("CARGO_PKG_VERSION"));
    assert!(summary["time"].is_string() && summary["configuration"]["agent"]["batch"] == 32);
    assert_eq!(summary["data"]["instruments"].as_array().unwrap().len(), 1);
    let page = std::fs::read_to_string(out.join("report.html")).unwrap();
    for words in ["stopped by the equity floor at", "random, without the floor", "By month", "At other costs"]
    {
        assert!(page.contains(words), "{words}");
    }
}

#[test]
fn a_test_that_was_reported_before_is_not_called_unseen() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    run_well(at, &short_train(&["--steps", "500", "--out", "out"]));
    let page = || std::fs::read_to_string(at.join("out/report.html")).unwrap();
    assert!(page().contains("seen for the first time"));
    // A report that is made again after the same steps shows nothing new.
    run_well(at, &["train", "--resume", "out"]);
    assert!(page().contains("seen for the first time"));
    let output = run_well(at, &["train", "--resume", "out", "--steps", "700"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("not unseen") && said.contains("environment step 512"), "{said}");
    assert!(!page().contains("seen for the first time") && page().contains("not unseen"));
    assert_eq!(summary(&at.join("out"))["test_reported_before"], serde_json::json!([512]));
    let again = run_well(at, &["evaluate", "--run", "out"]);
    assert!(String::from_utf8_lossy(&again.stdout).contains("not unseen"));
}
