//! What a check found.

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// What a check came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// All is well.
    Ok,
    /// It works, but slower, or less safely, than it should.
    Warning,
    /// It does not work.
    Error,
}

/// A check and what it found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// What came of it.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What should have been; empty where it is.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub expected: String,
    /// What to type, or to do; empty where nothing is to be done.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub fix: String,
}

impl Check {
    /// Nothing to be done.
    pub fn ok(name: &str, found: impl Into<String>) -> Check {
        Check {
            name: name.to_owned(),
            verdict: Verdict::Ok,
            found: found.into(),
            expected: String::new(),
            fix: String::new(),
        }
    }

    /// It works, but.
    pub fn warning(name: &str, found: impl Into<String>, expected: &str, fix: impl Into<String>) -> Check {
        let (expected, fix) = (expected.to_owned(), fix.into());
        Check { verdict: Verdict::Warning, expected, fix, ..Check::ok(name, found) }
    }

    /// It does not work.
    pub fn error(name: &str, found: impl Into<String>, expected: impl Into<String>, fix: impl Into<String>) -> Check {
        let (expected, fix) = (expected.into(), fix.into());
        Check { verdict: Verdict::Error, expected, fix, ..Check::ok(name, found) }
    }
}

impl From<&Error> for Check {
    fn from(error: &Error) -> Check {
        match error {
            Error::Invalid { place, found, expected, fix } => Check::error(place, found, expected, fix),
            other => Check::error("start", other.to_string(), "", ""),
        }
    }
}

impl From<&Check> for Error {
    fn from(check: &Check) -> Error {
        Error::invalid(&check.name, &check.found, &check.expected, &check.fix)
    }
}
