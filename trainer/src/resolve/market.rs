//! Resolves the options of the market: bars, splits and account.

use crate::config::Config;
use crate::error::{Error, Result};
use crate::market::account::{AccountRules, Costs};
use crate::market::config::{AccountSettings, DataSettings};
use crate::market::dataset::MarketOptions;
use crate::market::import::{Source, SourceOptions};
use crate::market::instrument_names::InstrumentPattern;
use crate::market::synthetic::SyntheticOptions;

/// The market options of a run.
///
/// # Errors
/// [`Error::Config`] for options after a file's name that cannot be understood.
pub fn market_options(config: &Config) -> Result<MarketOptions> {
    Ok(MarketOptions {
        sources: sources(&config.data)?,
        instrument_patterns: instrument_patterns(&config.data)?,
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
    })
}

/// The patterns that name the instruments of files.
///
/// # Errors
/// [`Error::Config`] for a pattern that cannot be understood.
pub fn instrument_patterns(data: &DataSettings) -> Result<Vec<InstrumentPattern>> {
    let parse = |text: &String| {
        InstrumentPattern::parse(text)
            .map_err(|problem| Error::Config { key: "data.instrument".to_owned(), problem })
    };
    data.instrument.iter().map(parse).collect()
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

/// The files of a run, each with its spelling: those of `data.files`, then those of the `[[data.source]]` tables.
///
/// # Errors
/// [`Error::Config`] for options after a file's name that cannot be understood.
pub fn sources(data: &DataSettings) -> Result<Vec<Source>> {
    let defaults = SourceOptions {
        preset: data.preset.clone(),
        label: data.label,
        zone: data.zone.clone(),
        time_format: data.time_format.clone(),
        decimal: data.decimal,
        missing: data.missing,
        ..SourceOptions::default()
    };
    let plain = SourceOptions::default();
    let files = data.files.iter().map(|file| (file, &plain));
    let of_tables =
        data.source.iter().flat_map(|table| table.files.iter().map(|file| (file, &table.options)));
    files
        .chain(of_tables)
        .map(|(file, of_table)| {
            let source = Source::from_text(file)
                .map_err(|problem| Error::Config { key: file.display().to_string(), problem })?;
            Ok(Source { options: source.options.over(of_table).over(&defaults), ..source })
        })
        .collect()
}
