//! The rows of norm groups.

use std::fmt;
use std::str::FromStr;

/// The least rows of a norm group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "toml::Value", into = "toml::Value")]
pub enum NormRows {
    /// All rows of a step are one group.
    #[default]
    All,
    /// A node of the tree over shards that parts in two leaves each of them this many rows at least.
    AtLeast(usize),
}

impl fmt::Display for NormRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NormRows::All => f.write_str("all"),
            NormRows::AtLeast(rows) => write!(f, "{rows}"),
        }
    }
}

impl FromStr for NormRows {
    type Err = String;
    fn from_str(text: &str) -> Result<NormRows, String> {
        let rows = || text.parse().ok().filter(|&rows: &usize| rows > 0 && rows <= u32::MAX as usize);
        match text {
            "all" => Ok(NormRows::All),
            _ => rows().map(NormRows::AtLeast).ok_or_else(|| format!("'{text}', expected 'all' or a number of rows")),
        }
    }
}

impl TryFrom<toml::Value> for NormRows {
    type Error = String;
    fn try_from(value: toml::Value) -> Result<NormRows, String> {
        match value {
            toml::Value::Integer(rows) => rows.to_string().parse(),
            toml::Value::String(text) => text.parse(),
            other => Err(format!("{other}, expected a number of rows, or \"all\"")),
        }
    }
}

impl From<NormRows> for toml::Value {
    fn from(rows: NormRows) -> toml::Value {
        match rows {
            NormRows::All => "all".into(),
            NormRows::AtLeast(rows) => toml::Value::Integer(rows as i64),
        }
    }
}

impl NormRows {
    /// Whether all rows of a step are one group.
    pub fn is_all(&self) -> bool {
        *self == NormRows::All
    }
}
