//! The test in parts: at other costs, by month, by instrument.

use crate::format;
use crate::market::backtest::performance::Performance;
use crate::report::html::escape::{escape, push, typeset};
use crate::report::html::report_data::{CostTable, InstrumentRow, Market, MonthTable};
use crate::report::html::table::cell;
use crate::report::test_rows::with_interval;

/// The section; empty where there is nothing to show.
pub(super) fn details_section(market: &Market) -> String {
    let parts = [costs(&market.costs_table), months(&market.months), instruments(&market.instruments)];
    if parts.iter().all(String::is_empty) {
        return String::new();
    }
    format!(
        "<section class=\"card\" aria-labelledby=\"details\"><h2 id=\"details\">Test part: in parts</h2>{}</section>",
        parts.concat()
    )
}

fn costs(table: &CostTable) -> String {
    if table.rows.is_empty() {
        return String::new();
    }
    let row = |&(bps, multiple, log_return): &(f64, f64, f64)| {
        let name = format!("× {}", format::number(multiple));
        (name, vec![format!("{} bp", format::number(bps)), format::signed_percent(log_return.exp_m1())])
    };
    let rows: Vec<_> = table.rows.iter().map(row).collect();
    let break_even = match table.break_even_bps {
        Some(bps) => format!("They earn nothing at {} bp a side.", format::fixed(bps, 2)),
        None if table.rows[0].2 <= 0.0 => "They earn nothing even without costs.".to_owned(),
        None => "They earn more than nothing at any costs up to 1,000 bp a side.".to_owned(),
    };
    format!(
        "<h3>At other costs</h3><p class=\"note\">The agent's decisions as they were taken, without the equity floor. {}</p>{}",
        typeset(&break_even),
        plain_table("The agent at other costs", &["Costs", "A side", "Return"], &rows)
    )
}

fn months(table: &MonthTable) -> String {
    if table.months.is_empty() {
        return String::new();
    }
    let row = |(name, returns): &(String, Vec<f64>)| {
        (name.clone(), returns.iter().map(|&value| format::signed_percent(value)).collect())
    };
    let rows: Vec<_> = table.months.iter().map(row).collect();
    let heads: Vec<&str> = std::iter::once("Month").chain(table.names.iter().map(String::as_str)).collect();
    format!(
        "<h3>By month</h3><p class=\"note\">Return of each month (UTC), or of the part of it that the test covers.</p>{}",
        plain_table("Returns by month", &heads, &rows)
    )
}

fn instruments(rows: &[InstrumentRow]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let sharpe = |one: &Performance| with_interval(one.sharpe, one.sharpe_interval);
    let row = |row: &InstrumentRow| {
        let cells = vec![
            format::signed_percent(row.agent.total_return),
            format::signed_percent(row.buy_and_hold.total_return),
            sharpe(&row.agent),
            format::percent(row.agent.max_drawdown),
            format::percent(row.agent.exposure_long),
            format::percent(row.agent.exposure_short),
            format::percent(row.agent.cost),
            format::count(row.agent.trades),
        ];
        (row.name.clone(), cells)
    };
    let heads =
        ["Instrument", "Agent", "Buy and hold", "Sharpe", "Max drawdown", "Long", "Short", "Cost", "Trades"];
    format!(
        "<h3>By instrument</h3><p class=\"note\">All numbers but those of buying and holding are the agent's.</p>{}",
        plain_table("Results by instrument", &heads, &rows.iter().map(row).collect::<Vec<_>>())
    )
}

/// A table of texts: a name and cells per row.
fn plain_table(caption: &str, heads: &[&str], rows: &[(String, Vec<String>)]) -> String {
    let mut out = String::new();
    push(
        &mut out,
        format_args!(
            "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{0}\"><table><caption>{0}</caption><thead><tr>",
            escape(caption)
        ),
    );
    for head in heads {
        push(&mut out, format_args!("<th scope=\"col\">{}</th>", escape(head)));
    }
    out.push_str("</tr></thead><tbody>");
    for (name, cells) in rows {
        push(&mut out, format_args!("<tr><th scope=\"row\">{}</th>", escape(name)));
        for text in cells {
            push(&mut out, format_args!("<td>{}</td>", cell(text)));
        }
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table></div>");
    out
}
