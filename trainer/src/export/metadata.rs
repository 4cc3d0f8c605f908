//! What a file of weights says about itself, so that a program that is not ours can feed the network.

use serde_json::{Value, json};

use crate::market::account::{ACCOUNT_NAMES, N_ACTIONS};
use crate::market::dataset::views;
use crate::market::features::{LVN_NAMES, REGIME_NAMES, STRUCTURE_NAMES, TACTICAL_NAMES};
use crate::resolve::Parts;
use crate::run::config::EnvironmentKind;
use crate::run::tensor_file::Metadata;

/// The version of the names of weights and facts.
pub const FORMAT_VERSION: u32 = 1;

/// Actions of the market, in the order of their values.
const MARKET_ACTIONS: [&str; N_ACTIONS] = ["short", "flat", "long"];
/// Actions of CartPole.
const CARTPOLE_ACTIONS: [&str; 2] = ["left", "right"];
/// Numbers of CartPole's observation.
const CARTPOLE_NAMES: [&str; 4] = ["cart_position", "cart_velocity", "pole_angle", "pole_angular_velocity"];

/// The facts of a run's weights that do not depend on how far it is: its network, the order of its inputs and actions, and
/// how the numbers are scaled. Lists are JSON.
#[must_use]
pub fn of_run(parts: &Parts) -> Metadata {
    let is_market = parts.run.environment == EnvironmentKind::Market;
    let text = |value: Value| value.to_string();
    let mut facts = Metadata::from([
        ("format".to_owned(), format!("plimsoll weights {FORMAT_VERSION}")),
        ("plimsoll_version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ("environment".to_owned(), parts.run.environment.word().to_owned()),
        ("actions".to_owned(), text(if is_market { json!(MARKET_ACTIONS) } else { json!(CARTPOLE_ACTIONS) })),
        ("views".to_owned(), text(if is_market { market_views() } else { plain_views() })),
    ]);
    facts.extend(parts.agent.network_facts().into_iter().map(|(name, value)| (name.to_owned(), value)));
    if is_market {
        let rules = &parts.market.rules;
        let scaling = json!({
            "features": "as `plimsoll features` writes them: each row is scaled from past bars alone, nothing is fitted",
            "account": {
                "position": "-1, 0 or +1",
                "unrealised_profit": "tanh(side x (close - entry price) / (4 ATR at entry))",
                "time_in_trade": "tanh(bars since entry / 48)",
                "drawdown": "tanh(drawdown from a peak that sinks towards the equity by 1/288 of the gap per bar / 0.05)",
                "exposure": "notional / (2 x position limit x equity), at most 1",
                "cost_paid": "tanh(sum of cost / equity that loses 1/288 per bar / 0.01)",
                "stop_distance": "distance to the stop / (2 x stop in ATR x ATR now), in [0, 1]; 1 without a stop",
                "session_phase": "2 x (share of the UTC day at the close) - 1",
            },
            "reward": "10,000 x the change of log equity per bar, costs paid; values are of rewards x reward_scale",
            "discount": parts.learning.pace.discount,
            "position_limit": rules.position_limit,
            "stop_atr": rules.stop_atr,
        });
        facts.insert("scaling".to_owned(), text(scaling));
    } else {
        facts.insert("scaling".to_owned(), text(json!({ "observation": "as the environment gives it" })));
    }
    facts
}

/// [`of_run`] with which weights they are, and after how many environment steps.
#[must_use]
pub fn of_weights(facts: &Metadata, which: &str, environment_steps: u64) -> Metadata {
    let mut facts = facts.clone();
    facts.insert("weights".to_owned(), which.to_owned());
    facts.insert("environment_steps".to_owned(), environment_steps.to_string());
    facts
}

fn market_views() -> Value {
    let names: [&[&str]; 5] = [&STRUCTURE_NAMES, &TACTICAL_NAMES, &REGIME_NAMES, &LVN_NAMES, &ACCOUNT_NAMES];
    let views = views();
    let view = |(view, names): (&buffers::frames::View, &[&str])| json!({ "name": view.name, "rows": view.length, "stride": view.stride, "columns": names });
    views.iter().zip(names).map(view).collect()
}

fn plain_views() -> Value {
    json!([{ "name": "observation", "rows": 1, "stride": 1, "columns": CARTPOLE_NAMES }])
}
