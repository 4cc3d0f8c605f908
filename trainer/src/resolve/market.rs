//! Resolves the options of the market: bars, splits and account.

use crate::config::Config;
use crate::market::account::{AccountRules, Costs};
use crate::market::config::{AccountSettings, DataSettings};
use crate::market::dataset::MarketOptions;
use crate::market::import::ImportOptions;
use crate::market::synthetic::SyntheticOptions;

/// The market options of a run.
#[must_use]
pub fn market_options(config: &Config) -> MarketOptions {
    MarketOptions {
        files: config.data.files.clone(),
        import: import_options(&config.data),
        synthetic: SyntheticOptions {
            days: config.synthetic.days,
            seed: config.synthetic.seed,
            predictable_fraction: config.synthetic.predictable_fraction,
            ..SyntheticOptions::default()
        },
        train_fraction: config.data.train_fraction,
        validation_fraction: config.data.validation_fraction,
        rules: account_rules(&config.account),
        episode_bars: config.account.episode_bars,
    }
}

fn account_rules(account: &AccountSettings) -> AccountRules {
    AccountRules {
        costs: Costs {
            commission_bps: account.commission_bps,
            half_spread_bps: account.half_spread_bps,
            slippage_bps: account.slippage_bps,
        },
        position_limit: account.position_limit,
        stop_atr: account.stop_atr,
        equity_floor: account.equity_floor,
        drawdown_penalty: account.drawdown_penalty,
        ..AccountRules::default()
    }
}

/// The options for reading timestamps in a run's files.
#[must_use]
pub fn import_options(data: &DataSettings) -> ImportOptions {
    ImportOptions { time_format: data.time_format.clone(), zone: data.zone.clone(), label: data.label }
}
