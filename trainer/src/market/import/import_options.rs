//! Options of an import, as the user gives them.

/// Which moment of a bar its stamp names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Label {
    /// The first moment of the bar.
    #[default]
    Start,
    /// The first moment after the bar.
    End,
}

/// Options of an import, beyond what all rows of the file agree on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImportOptions {
    /// Spelling of the stamps in `strptime` directives, such as `%d/%m/%Y %H:%M`; where a file mixes several
    /// spellings they are separated by `|`. None: ISO 8601 or a count since 1970, whichever the first row is.
    pub time_format: Option<String>,
    /// IANA name of the zone that stamps without an offset are in, such as `America/New_York`. None: UTC.
    pub zone: Option<String>,
    /// Which moment of a bar its stamp names. None: the start.
    pub label: Option<Label>,
}
