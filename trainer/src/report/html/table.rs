//! The tables: results of agent, baselines and oracle.

use crate::format;
use crate::report::html::chart::Style;
use crate::report::html::escape::{escape, push, typeset};
use crate::report::html::market::looks;
use crate::report::html::report_data::{Market, PerformanceRow, ReturnsRow, Role};
use crate::report::test_rows::with_interval;

/// A column: its head, what it means, and how a row's value reads.
struct Column<R> {
    head: &'static str,
    meaning: &'static str,
    cell: fn(&R) -> String,
}

/// The table of REFERENCE.md §4.
pub(super) fn performance_section(market: &Market) -> String {
    if market.performance.is_empty() {
        return String::new();
    }
    let columns: [Column<PerformanceRow>; 11] = [
        Column {
            head: "Return",
            meaning: "last equity over the starting balance, less 1",
            cell: |row| format::signed_percent(row.performance.total_return),
        },
        Column {
            head: "Log return",
            meaning: "its logarithm, which is the sum of the rewards over 10,000",
            cell: |row| format::signed(row.performance.log_return, 4),
        },
        Column {
            head: "Sharpe",
            meaning: "mean over standard deviation of the bars' returns, annualised, with its 95 % interval",
            cell: |row| with_interval(row.performance.sharpe, row.performance.sharpe_interval),
        },
        Column {
            head: "Sortino",
            meaning: "as Sharpe, over the deviation of the losses alone, annualised, with its 95 % interval",
            cell: |row| with_interval(row.performance.sortino, row.performance.sortino_interval),
        },
        Column {
            head: "Max drawdown",
            meaning: "greatest fall from the highest equity so far, the starting balance included",
            cell: |row| format::percent(row.performance.max_drawdown),
        },
        Column {
            head: "Turnover",
            meaning: "traded notional over equity; 2 is one trip in and out",
            cell: |row| times(row.performance.turnover),
        },
        Column {
            head: "Long",
            meaning: "share of the bars with a long position",
            cell: |row| format::percent(row.performance.exposure_long),
        },
        Column {
            head: "Short",
            meaning: "share of the bars with a short position",
            cell: |row| format::percent(row.performance.exposure_short),
        },
        Column {
            head: "Cost",
            meaning: "costs paid, of the starting balance",
            cell: |row| format::percent(row.performance.cost),
        },
        Column {
            head: "Win rate",
            meaning: "share of the closed trades that earned after costs",
            cell: |row| row.performance.win_rate.map_or_else(|| format::UNKNOWN.to_owned(), format::percent),
        },
        Column {
            head: "Trades",
            meaning: "positions taken",
            cell: |row| format::count(row.performance.trades),
        },
    ];
    let rows: Vec<Row<PerformanceRow>> = market
        .performance
        .iter()
        .map(|row| Row { name: &row.name, role: row.role, remark: row.remark.as_deref(), data: row })
        .collect();
    let mut out = String::from(
        "<section class=\"card\" aria-labelledby=\"results\"><h2 id=\"results\">Test part: results</h2>",
    );
    push(
        &mut out,
        format_args!(
            "<p class=\"note\">All rows pay the same costs: {}.{}</p>",
            escape(&market.costs),
            if market.periods_per_year > 0.0 {
                format!(
                    " Annualised with {} bars a year, from the real count.",
                    format::count(market.periods_per_year as u64)
                )
            } else {
                String::new()
            }
        ),
    );
    out.push_str(&table("Results on the test part", &columns, &rows));
    out.push_str(&meanings(&columns));
    out.push_str("</section>");
    out
}

/// The table of a run without a market.
pub(super) fn returns_section(returns: &[ReturnsRow]) -> String {
    if returns.is_empty() {
        return String::new();
    }
    let columns: [Column<ReturnsRow>; 5] = [
        Column {
            head: "Mean return",
            meaning: "mean over the episodes",
            cell: |row| format::number(row.mean),
        },
        Column {
            head: "Std. dev.",
            meaning: "standard deviation over the episodes",
            cell: |row| format::number(row.deviation),
        },
        Column { head: "Lowest", meaning: "the worst episode", cell: |row| format::number(row.lowest) },
        Column { head: "Highest", meaning: "the best episode", cell: |row| format::number(row.highest) },
        Column { head: "Episodes", meaning: "how many were run", cell: |row| format::count(row.n_episodes) },
    ];
    let rows: Vec<Row<ReturnsRow>> =
        returns.iter().map(|row| Row { name: &row.name, role: row.role, remark: None, data: row }).collect();
    format!(
        "<section class=\"card\" aria-labelledby=\"results\"><h2 id=\"results\">Returns of evaluation episodes</h2>{}</section>",
        table("Returns of the test's episodes", &columns, &rows)
    )
}

/// A row: its name, whose it is, what a reader has to know of it, and its data.
struct Row<'a, R> {
    name: &'a str,
    role: Role,
    remark: Option<&'a str>,
    data: &'a R,
}

fn table<R>(caption: &str, columns: &[Column<R>], rows: &[Row<R>]) -> String {
    let mut out = String::from("<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"");
    push(
        &mut out,
        format_args!(
            "{0}\"><table><caption>{0}</caption><thead><tr><th scope=\"col\">Policy</th>",
            escape(caption)
        ),
    );
    for column in columns {
        push(
            &mut out,
            format_args!(
                "<th scope=\"col\"><abbr title=\"{}\">{}</abbr></th>",
                escape(column.meaning),
                column.head
            ),
        );
    }
    out.push_str("</tr></thead><tbody>");
    let looks = looks(rows.iter().map(|row| row.role));
    for (row, (class, style)) in rows.iter().zip(looks) {
        let (row_class, remark) = match row.role {
            Role::Agent => ("is-agent", None),
            Role::Baseline => ("", None),
            Role::Beside => ("is-beside", None),
            Role::Oracle => ("is-oracle", Some("not attainable")),
        };
        let remarks = remark.into_iter().chain(row.remark);
        let remarks: String = remarks.map(|text| format!(" <em>{}</em>", escape(text))).collect();
        let dashed = if style == Style::Dashed { " dashed" } else { "" };
        push(
            &mut out,
            format_args!(
                "<tr class=\"{row_class}\"><th scope=\"row\"><i class=\"key {class}{dashed}\"></i>{}{remarks}</th>",
                escape(row.name)
            ),
        );
        for column in columns {
            push(&mut out, format_args!("<td>{}</td>", cell(&(column.cell)(row.data))));
        }
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table></div>");
    out
}

/// A value, and its interval, if it has one, on a line of its own.
pub(super) fn cell(value: &str) -> String {
    match value.split_once(" (") {
        Some((value, interval)) => {
            let interval = interval.trim_end_matches(')');
            format!("{}<small>{}</small>", escape(&typeset(value)), escape(&interval.replace('-', "−")))
        }
        None => escape(&typeset(value)),
    }
}

fn meanings<R>(columns: &[Column<R>]) -> String {
    let mut out = String::from("<details class=\"meanings\"><summary>What the columns mean</summary><dl>");
    for column in columns {
        push(&mut out, format_args!("<dt>{}</dt><dd>{}</dd>", column.head, escape(column.meaning)));
    }
    out.push_str("</dl></details>");
    out
}

fn times(value: f64) -> String {
    if value.is_finite() {
        format!("{} ×", format::fixed(value, usize::from(value < 99.95)))
    } else {
        format::UNKNOWN.to_string()
    }
}
