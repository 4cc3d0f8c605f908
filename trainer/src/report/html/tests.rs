//! The report as a whole.

use super::*;
use crate::market::backtest::performance::Performance;

/// A year of five-minute bars of one instrument with everything filled in.
fn full(n_bars: usize) -> ReportData {
    let times: Vec<i64> = (0..n_bars as i64).map(|bar| 1_700_000_000_000 + bar * 300_000).collect();
    let wave = |size: f64, speed: f64| {
        (0..n_bars).map(|bar| 10_000.0 * (1.0 + size * (bar as f64 * speed).sin())).collect()
    };
    let curve = |name: &str, role, values| Curve {
        name: name.to_string(),
        role,
        times_millis: times.clone(),
        values,
    };
    let row = |name: &str, role| PerformanceRow {
        name: name.to_string(),
        role,
        performance: Performance {
            total_return: 0.0123,
            log_return: 0.012_225,
            sharpe: 1.25,
            sortino: 1.75,
            max_drawdown: 0.034,
            turnover: 210.0,
            exposure: 0.61,
            cost: 0.042,
            win_rate: None,
            trades: 1_204,
            ..Performance::default()
        },
        remark: None,
    };
    ReportData {
        title: "run <1>".to_string(),
        subtitle: "DQN & \"compact\"".to_string(),
        verdict: Some("The agent earned <nothing>.".to_string()),
        command_line: "plimsoll train --data 'a<b>.csv'".to_string(),
        seeds: vec![7],
        tiles: vec![Tile { label: "Samples".to_string(), value: "1,503/s".to_string(), note: None }],
        market: Some(Market {
            starting_balance: 10_000.0,
            curves: vec![
                curve("agent", Role::Agent, wave(0.04, 0.001)),
                curve("flat", Role::Baseline, vec![10_000.0; n_bars]),
                curve("buy and hold", Role::Baseline, wave(0.06, 0.01)),
                curve("oracle", Role::Oracle, wave(0.9, 0.000_1)),
            ],
            positions: (0..10)
                .map(|number| Positions {
                    instrument: format!("instrument {number}"),
                    times_millis: times.clone(),
                    price: wave(0.1, 0.7),
                    position: (0..n_bars).map(|bar| [(-1), 0, 1][bar / 3 % 3]).collect(),
                })
                .collect(),
            performance: vec![
                row("agent", Role::Agent),
                row("flat", Role::Baseline),
                row("oracle", Role::Oracle),
            ],
            costs: "2 bp a side".to_string(),
            periods_per_year: 105_120.0,
            ..Market::default()
        }),
        learning: vec![LearningCurve {
            title: "Loss".to_string(),
            points: (0..5_000).map(|at| (at * 10, 100.0 / (1.0 + at as f64))).collect(),
            ..LearningCurve::default()
        }],
        memory: Some(Memory {
            resident: (0..5_000).map(|at| (at as f64, 300 << 20)).collect(),
            limit_bytes: Some(64 << 30),
            ..Memory::default()
        }),
        limitations: vec!["One seed says little.".to_string()],
        ..ReportData::default()
    }
}

#[test]
fn a_year_of_ten_instruments_stays_under_a_megabyte() {
    let page = render(&full(105_120));
    assert!(page.len() < 1_000_000, "{} bytes", page.len());
}

#[test]
fn the_page_needs_no_network() {
    let page = render(&full(1_000));
    for outside in ["http:", "https:", "src=", "href=", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn every_text_is_escaped() {
    let page = render(&full(100));
    assert!(page.contains("run &lt;1&gt;") && page.contains("a&lt;b&gt;.csv"));
    assert!(!page.contains("<1>") && !page.contains("<nothing>") && !page.contains("a<b>"));
}

#[test]
fn the_same_data_give_the_same_page() {
    assert_eq!(render(&full(1_000)), render(&full(1_000)));
}

#[test]
fn a_run_without_a_market_has_no_market_sections() {
    let report = ReportData {
        title: "cartpole".to_string(),
        returns: vec![ReturnsRow {
            name: "agent".to_string(),
            role: Role::Agent,
            n_episodes: 100,
            mean: 496.25,
            deviation: 12.5,
            lowest: 402.0,
            highest: 500.0,
        }],
        ..full(0)
    };
    let page = render(&ReportData { market: None, ..report });
    assert!(page.contains("496.2") && page.contains("id=\"learning\"") && page.contains("id=\"memory\""));
    for section in ["id=\"equity\"", "id=\"positions\"", "Sharpe", "Drawdown"] {
        assert!(!page.contains(section), "{section}");
    }
}

#[test]
fn an_empty_report_is_still_a_page() {
    let page = render(&ReportData::default());
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
    let empty_market = ReportData { market: Some(Market::default()), ..ReportData::default() };
    assert!(!render(&empty_market).contains("NaN"));
}

#[test]
fn odd_values_never_reach_a_drawing() {
    let mut report = full(500);
    let market = report.market.as_mut().unwrap();
    market.curves[0].values[7] = f64::NAN;
    market.curves[2].values[9] = f64::INFINITY;
    market.positions[0].price[3] = f64::NAN;
    let page = render(&report);
    assert!(!page.contains("NaN") && !page.contains("inf\"") && !page.contains("infpx"));
}

#[test]
fn a_curve_far_from_the_agents_gets_a_logarithmic_axis_or_leaves_the_chart_and_is_named() {
    let mut report = full(5_000);
    assert!(render(&report).contains("The vertical axis is logarithmic"));
    let oracle = &mut report.market.as_mut().unwrap().curves[3];
    oracle.values.iter_mut().for_each(|value| *value = 10_000.0 * (*value / 10_000.0).powi(30));
    let page = render(&report);
    assert!(page.contains("scaled to the agent: oracle.") && !page.contains("axis is logarithmic"));
}
