//! From one table of keys: the structs, their defaults, the known keys, and the commented TOML.
//!
//! A key is written once, in [`sections`](crate::config::keys):
//!
//! ```text
//! /// What it means, in lines that read well both in rustdoc and in a TOML comment.
//! key: type = default, in 1..=4096, unit "environments";
//! ```
//!
//! `in` and `unit` stand where the key is a number with a range; the range then appears in the struct's docs, in the
//! comments, and in every fault. A type is anything that implements [`Value`](crate::config::value::Value).

/// The keys of one section, as the table names them.
pub(super) struct SectionKeys {
    /// The heading.
    pub(super) name: &'static str,
    /// What the section is about, a line each.
    pub(super) about: &'static [&'static str],
    /// Its keys, in the order of the table.
    pub(super) keys: &'static [&'static str],
}

/// One key with the value that it has in some configuration.
pub(super) struct Row {
    /// The section it stands in.
    pub(super) section: &'static str,
    /// The key within its section.
    pub(super) key: &'static str,
    /// What it means, a line each.
    pub(super) about: &'static [&'static str],
    /// Range and unit in words, where it is a number with a range.
    pub(super) takes: Option<String>,
    /// Its value, as TOML.
    pub(super) value: String,
}

/// Expands the table of keys: a struct for each section, and [`Config`](crate::config::Config) that holds them.
macro_rules! define_config {
    ($(
        $(#[doc = $section_about:literal])+
        $section:ident: $Section:ident {
            $(
                $(#[doc = $about:literal])+
                $key:ident: $type:ty = $default:expr $(, in $range:expr, unit $unit:literal)?;
            )+
        }
    )+) => {
        $(
            $(#[doc = $section_about])+
            #[derive(Debug, Clone, PartialEq)]
            pub struct $Section {
                $(
                    $(#[doc = $about])+
                    $( #[doc = concat!("\nRange: `", stringify!($range), "` (", $unit, ").")] )?
                    #[doc = concat!("\nDefault: `", stringify!($default), "`.")]
                    pub $key: $type,
                )+
            }

            impl Default for $Section {
                fn default() -> Self {
                    Self { $( $key: $default, )+ }
                }
            }
        )+

        /// All that a run does, resolved: every key has a value of its type, within its range.
        ///
        /// The default is that of the market.
        #[derive(Debug, Clone, Default, PartialEq)]
        pub struct Config {
            $( $(#[doc = $section_about])+ pub $section: $Section, )+
        }

        /// Every section with its keys, in the order of the table.
        pub(super) const SECTIONS: &[SectionKeys] = &[
            $( SectionKeys {
                name: stringify!($section),
                about: &[$( $section_about ),+],
                keys: &[$( stringify!($key) ),+],
            }, )+
        ];

        impl Config {
            /// Gives `section.key` the value that was written, or says what is wrong with it. Whether the key is
            /// known is for the caller to ask [`SECTIONS`].
            pub(super) fn assign(&mut self, section: &str, key: &str, written: &Written) -> Result<(), String> {
                match (section, key) {
                    $( $(
                        (stringify!($section), stringify!($key)) => {
                            let value: Result<$type, String> = Value::parse(written);
                            $(
                                let size = value::size(written, $unit);
                                let value = size.map_or(value, |size| Value::parse(&size));
                                let value = value::within(value, written, &$range, $unit);
                            )?
                            self.$section.$key = value?;
                        }
                    )+ )+
                    _ => return Err("is not a known key".to_owned()),
                }
                Ok(())
            }

            /// Every key with its value, in the order of the table.
            pub(super) fn rows(&self) -> Vec<Row> {
                vec![
                    $( $( Row {
                        section: stringify!($section),
                        key: stringify!($key),
                        about: &[$( $about ),+],
                        takes: None $( .or(Some(value::takes::<$type>(&$range, $unit))) )?,
                        value: Value::to_toml(&self.$section.$key),
                    }, )+ )+
                ]
            }
        }
    };
}

pub(super) use define_config;
