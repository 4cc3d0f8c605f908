//! Writes bars as vendors and tools write them: small files for tests, of prices that the test makes up.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::market::bar::Bar;

/// A file of bars in the spelling of a vendor.
pub(crate) struct MarketFile {
    /// The preset that reads it, or the tool that writes it where there is none.
    pub(crate) vendor: &'static str,
    /// Its name.
    pub(crate) name: &'static str,
    /// What must be told to read it, as it stands after the `?`; empty: nothing.
    pub(crate) told: &'static str,
    /// What the file calls its instrument, if it does.
    pub(crate) symbol: Option<&'static str>,
    /// Whether it holds the volumes of the bars; if not, each is 0 when it is read.
    pub(crate) has_volume: bool,
    /// Its content.
    pub(crate) bytes: Vec<u8>,
}

/// A time of a bar as a vendor writes it: a strftime format in a zone.
fn stamp(millis: i64, zone: &str, format: &str) -> String {
    let zone = TimeZone::get(zone).expect("the zones of vendors exist");
    let instant = Timestamp::from_millisecond(millis).expect("the bars of tests lie in the calendar");
    instant.to_zoned(zone).strftime(format).to_string()
}

/// A text of a header and a line for each bar.
fn lines<'a>(
    header: &str,
    bars: impl IntoIterator<Item = &'a Bar>,
    line: impl Fn(&Bar) -> String,
) -> Vec<u8> {
    let mut text = String::new();
    if !header.is_empty() {
        text = format!("{header}\n");
    }
    for bar in bars {
        text.push_str(&line(bar));
        text.push('\n');
    }
    text.into_bytes()
}

/// Open, high, low and close with a sign between them.
fn prices(bar: &Bar, sign: &str) -> String {
    [bar.open, bar.high, bar.low, bar.close].map(|price| price.to_string()).join(sign)
}

/// A text as Windows writes UTF-16.
fn utf16(text: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(text).expect("the files of tests are text");
    std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect()
}

/// The bars in every spelling. Volumes are whole numbers; stamps are read at the minute.
pub(crate) fn market_files(bars: &[Bar]) -> Vec<MarketFile> {
    let file =
        |vendor, name, bytes| MarketFile { vendor, name, told: "", symbol: None, has_volume: true, bytes };
    let mut files = crypto_files(bars, &file);
    files.extend(stock_files(bars, &file));
    files.extend(currency_files(bars, &file));
    files.extend(spreadsheet_files(bars, &file));
    files
}

type File<'f> = dyn Fn(&'static str, &'static str, Vec<u8>) -> MarketFile + 'f;

/// The files of exchanges of cryptocurrencies and of the tools that collect them.
fn crypto_files(bars: &[Bar], file: &File<'_>) -> Vec<MarketFile> {
    let klines = |header, per_milli: i64| {
        lines(header, bars, |b| {
            let close = b.close_millis * per_milli - 1;
            format!(
                "{},{},{},{close},1000.5,3,4.0,400.0,0",
                b.open_millis * per_milli,
                prices(b, ","),
                b.volume
            )
        })
    };
    let seconds = |b: &Bar| b.open_millis / 1000;
    let coinbase =
        |b: &Bar| format!("{},{},{},{},{},{}", seconds(b), b.low, b.high, b.open, b.close, b.volume);
    vec![
        file(
            "binance",
            "BTCUSDT-1m-2024-03.csv",
            klines(
                "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,\
                 taker_buy_quote_volume,ignore",
                1,
            ),
        ),
        file("binance", "BTCUSDT-1m-2024-04.csv", klines("", 1)),
        file("binance", "BTCUSDT-1m-2025-03.csv", klines("", 1000)),
        MarketFile {
            told: "as=kraken",
            ..file(
                "kraken",
                "XBTUSD_1.csv",
                lines("", bars, |b| format!("{},{},{},7", seconds(b), prices(b, ","), b.volume)),
            )
        },
        MarketFile {
            symbol: Some("BTC/USD"),
            ..file(
                "cryptodatadownload",
                "Bitstamp_BTCUSD_2024_minute.csv",
                lines(
                    "https://www.example.org/data\nunix,date,symbol,open,high,low,close,Volume BTC,Volume USD",
                    bars.iter().rev(),
                    |b| {
                        let date = stamp(b.open_millis, "UTC", "%Y-%m-%d %H:%M:%S");
                        format!("{},{date},BTC/USD,{},{},123.5", b.open_millis, prices(b, ","), b.volume)
                    },
                ),
            )
        },
        file("coinbase", "BTC-USD.csv", lines("time,low,high,open,close,volume", bars, coinbase)),
        file(
            "coinbase",
            "newest_first.csv",
            lines("time,low,high,open,close,volume", bars.iter().rev(), coinbase),
        ),
        MarketFile { told: "as=coinbase", ..file("coinbase", "no_header.csv", lines("", bars, coinbase)) },
        file(
            "bitstamp",
            "bitstampUSD_1-min_data.csv",
            lines("Timestamp,Open,High,Low,Close,Volume_(BTC),Volume_(Currency),Weighted_Price", bars, |b| {
                format!("{},{},{},45.9,101.8", seconds(b), prices(b, ","), b.volume)
            }),
        ),
        file(
            "freqtrade",
            "BTC_USDT-1m.json",
            format!(
                "[{}]",
                bars.iter()
                    .map(|b| format!("[{}, {}, {}]", b.open_millis, prices(b, ", "), b.volume))
                    .collect::<Vec<_>>()
                    .join(", ")
            )
            .into_bytes(),
        ),
        file(
            "nautilus",
            "pipes.csv",
            lines("timestamp|open|high|low|close|volume", bars, |b| {
                format!("{}|{}|{}", b.open_millis, prices(b, "|"), b.volume)
            }),
        ),
    ]
}

/// The files of vendors of stocks and futures.
fn stock_files(bars: &[Bar], file: &File<'_>) -> Vec<MarketFile> {
    const NEW_YORK: &str = "America/New_York";
    let iso = |b: &Bar| stamp(b.open_millis, NEW_YORK, "%Y-%m-%d %H:%M:%S%:z");
    vec![
        file(
            "yfinance",
            "ABC.csv",
            lines("Datetime,Open,High,Low,Close,Adj Close,Volume", bars, |b| {
                format!("{},{},{},{}", iso(b), prices(b, ","), b.close, b.volume)
            }),
        ),
        MarketFile {
            symbol: Some("ABC"),
            ..file(
                "yfinance",
                "multi_index.csv",
                lines(
                    "Price,Close,High,Low,Open,Volume\nTicker,ABC,ABC,ABC,ABC,ABC\nDatetime,,,,,",
                    bars,
                    |b| {
                        let utc = stamp(b.open_millis, "UTC", "%Y-%m-%d %H:%M:%S+00:00");
                        format!("{utc},{},{},{},{},{}", b.close, b.high, b.low, b.open, b.volume)
                    },
                ),
            )
        },
        MarketFile {
            symbol: Some("AAA"),
            ..file(
                "polygon",
                "2024-03-04.csv",
                lines("ticker,volume,open,close,high,low,window_start,transactions", bars, |b| {
                    let nanos = b.open_millis * 1_000_000;
                    format!("AAA,{},{},{},{},{},{nanos},12", b.volume, b.open, b.close, b.high, b.low)
                }),
            )
        },
        MarketFile {
            symbol: Some("ABC"),
            ..file(
                "alpaca",
                "bars.csv",
                lines("symbol,timestamp,open,high,low,close,volume,trade_count,vwap", bars, |b| {
                    let utc = stamp(b.open_millis, "UTC", "%Y-%m-%d %H:%M:%S+00:00");
                    format!("ABC,{utc},{},{},7,101.5", prices(b, ","), b.volume)
                }),
            )
        },
        file(
            "interactive-brokers",
            "tws.csv",
            lines("date,open,high,low,close,volume,average,barCount", bars, |b| {
                let stamp = stamp(b.open_millis, NEW_YORK, "%Y%m%d %H:%M:%S US/Eastern");
                format!("{stamp},{},{},101.5,9", prices(b, ","), b.volume)
            }),
        ),
        MarketFile {
            has_volume: false,
            ..file(
                "interactive-brokers",
                "midpoint.csv",
                lines("date,open,high,low,close,volume,average,barCount", bars, |b| {
                    format!("{},{},-1.0,-1.0,-1", iso(b), prices(b, ","))
                }),
            )
        },
        file(
            "tradingview",
            "NASDAQ_ABC, 1.csv",
            lines("time,open,high,low,close,Volume,Volume MA,Plot,Plot", bars, |b| {
                format!("{},{},{},NaN,1,2", b.open_millis / 1000, prices(b, ","), b.volume)
            }),
        ),
        MarketFile {
            symbol: Some("ABC.US"),
            ..file(
                "stooq",
                "abc.us.txt",
                lines(
                    "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>",
                    bars,
                    |b| {
                        let stamp = stamp(b.open_millis, "UTC", "%Y%m%d,%H%M%S");
                        format!("ABC.US,5,{stamp},{},{},0", prices(b, ","), b.volume)
                    },
                ),
            )
        },
        file(
            "backtrader",
            "seven_names.txt",
            lines("Date,Open,High,Low,Close,Volume,OpenInterest", bars, |b| {
                let stamp = stamp(b.open_millis, "UTC", "%Y-%m-%d,%H:%M:%S");
                format!("{stamp},{},{},0", prices(b, ","), b.volume)
            }),
        ),
    ]
}

/// The files of vendors of currencies.
fn currency_files(bars: &[Bar], file: &File<'_>) -> Vec<MarketFile> {
    let metatrader5 =
        lines("<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>", bars, |b| {
            let stamp = stamp(b.open_millis, "UTC", "%Y.%m.%d\t%H:%M:%S");
            format!("{stamp}\t{}\t{}\t0\t5", prices(b, "\t"), b.volume)
        });
    vec![
        MarketFile {
            told: "as=histdata",
            has_volume: false,
            ..file(
                "histdata",
                "DAT_ASCII_EURUSD_M1_202403.csv",
                lines("", bars, |b| {
                    format!("{};{};0", stamp(b.open_millis, "Etc/GMT+5", "%Y%m%d %H%M%S"), prices(b, ";"))
                }),
            )
        },
        file(
            "metatrader4",
            "EURUSD1.csv",
            lines("", bars, |b| {
                let stamp = stamp(b.open_millis, "UTC", "%Y.%m.%d,%H:%M");
                format!("{stamp},{},{}", prices(b, ","), b.volume)
            }),
        ),
        file("metatrader5", "EURUSD_M1_utf16.csv", utf16(&metatrader5)),
        file("metatrader5", "EURUSD_M1.csv", metatrader5),
        file(
            "dukascopy",
            "EURUSD_Candlestick_1_M_BID.csv",
            lines("Gmt time,Open,High,Low,Close,Volume", bars, |b| {
                let stamp = stamp(b.open_millis, "UTC", "%d.%m.%Y %H:%M:%S.000");
                format!("{stamp},{},{}", prices(b, ","), b.volume)
            }),
        ),
        file(
            "dukascopy",
            "local_time.csv",
            lines("Local time,Open,High,Low,Close,Volume", bars, |b| {
                let stamp = stamp(b.open_millis, "Europe/Zurich", "%d.%m.%Y %H:%M:%S.000 GMT%z");
                format!("{stamp},{},{}", prices(b, ","), b.volume)
            }),
        ),
    ]
}

/// The files of spreadsheets and of programs of other countries.
fn spreadsheet_files(bars: &[Bar], file: &File<'_>) -> Vec<MarketFile> {
    let header = "Date;Open;High;Low;Close;Volume";
    vec![
        file(
            "spreadsheet",
            "decimal_comma.csv",
            lines(&format!("\u{feff}{header}"), bars, |b| {
                let cells = format!("{};{}", prices(b, ";"), b.volume).replace('.', ",");
                format!("{};{cells}", stamp(b.open_millis, "UTC", "%d.%m.%Y %H:%M"))
            }),
        ),
        file(
            "spreadsheet",
            "sep_line.csv",
            lines(&format!("sep=;\r\n{header}"), bars, |b| {
                let stamp = stamp(b.open_millis, "UTC", "%Y-%m-%d %H:%M");
                format!("{stamp};{};{}", prices(b, ";"), b.volume)
            }),
        ),
        MarketFile {
            told: "zone=UTC&time_format=%m/%d/%Y %I:%M %p",
            ..file(
                "spreadsheet",
                "us_afternoons.csv",
                lines("Date,Open,High,Low,Close,Volume", bars, |b| {
                    let stamp = stamp(b.open_millis, "UTC", "%-m/%-d/%Y %-I:%M %p");
                    format!("{stamp},{},{}", prices(b, ","), b.volume)
                }),
            )
        },
        MarketFile {
            told: "zone=Asia/Tokyo",
            ..file(
                "spreadsheet",
                "month_name.csv",
                lines("Date,Open,High,Low,Close,Volume", bars, |b| {
                    let stamp = stamp(b.open_millis, "Asia/Tokyo", "%d-%b-%Y %-H:%M");
                    format!("{stamp},{},{}", prices(b, ","), b.volume)
                }),
            )
        },
    ]
}
