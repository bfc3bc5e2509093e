//! A number of rows, or all of them.

use std::fmt;
use std::str::FromStr;

/// A number of rows, or all: of a step for norm groups, of a shard for the shuffle's window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "toml::Value", into = "toml::Value")]
pub enum RowCount {
    /// All of them.
    #[default]
    All,
    /// So many.
    Rows(usize),
}

impl fmt::Display for RowCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RowCount::All => f.write_str("all"),
            RowCount::Rows(rows) => write!(f, "{rows}"),
        }
    }
}

impl FromStr for RowCount {
    type Err = String;
    fn from_str(text: &str) -> Result<RowCount, String> {
        let rows = || text.parse().ok().filter(|&rows: &usize| rows > 0 && rows <= u32::MAX as usize);
        match text {
            "all" => Ok(RowCount::All),
            _ => rows().map(RowCount::Rows).ok_or_else(|| format!("'{text}', expected 'all' or a number of rows")),
        }
    }
}

impl TryFrom<toml::Value> for RowCount {
    type Error = String;
    fn try_from(value: toml::Value) -> Result<RowCount, String> {
        match value {
            toml::Value::Integer(rows) => rows.to_string().parse(),
            toml::Value::String(text) => text.parse(),
            other => Err(format!("{other}, expected a number of rows, or \"all\"")),
        }
    }
}

impl From<RowCount> for toml::Value {
    fn from(rows: RowCount) -> toml::Value {
        match rows {
            RowCount::All => "all".into(),
            RowCount::Rows(rows) => toml::Value::Integer(rows as i64),
        }
    }
}

impl RowCount {
    /// Whether it is all of them.
    pub fn is_all(&self) -> bool {
        *self == RowCount::All
    }
}
