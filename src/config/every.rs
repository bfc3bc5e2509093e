//! How often something is done: by time, by steps, by epochs, or never.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::plural::plural;

/// How often something is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "toml::Value", into = "String")]
pub enum Every {
    /// After this much time, in whole seconds.
    Time(Duration),
    /// After so many steps (optimizer updates).
    Steps(usize),
    /// After so many epochs.
    Epochs(usize),
    /// Not at all.
    Never,
}

const FORMS: &str = "expected a time (90s, 10min, 2h), steps (200steps, or 200), epochs (1epoch, 3epochs), or 'never'; \
    numbers are whole, 1 to 4294967296";

/// The limit of all counts in settings: products of two stay within 64 bits.
const LIMIT: u64 = 1 << 32;

impl FromStr for Every {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "never" {
            return Ok(Every::Never);
        }
        let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
        let within = |number: u64| if (1..=LIMIT).contains(&number) { Ok(number) } else { Err(FORMS.to_owned()) };
        let number = number.parse().map_err(|_| FORMS.to_owned()).and_then(within)?;
        let time = |seconds: u64| within(number * seconds).map(|seconds| Every::Time(Duration::from_secs(seconds)));
        match unit {
            "s" => time(1),
            "min" => time(60),
            "h" => time(3600),
            "" | "step" | "steps" => Ok(Every::Steps(number as usize)),
            "epoch" | "epochs" => Ok(Every::Epochs(number as usize)),
            _ => Err(FORMS.to_owned()),
        }
    }
}

/// As it can be typed: the largest unit of time that gives a whole number.
impl fmt::Display for Every {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Every::Time(time) => match time.as_secs() {
                seconds if seconds.is_multiple_of(3600) => write!(f, "{}h", seconds / 3600),
                seconds if seconds.is_multiple_of(60) => write!(f, "{}min", seconds / 60),
                seconds => write!(f, "{seconds}s"),
            },
            Every::Steps(count) => f.write_str(&plural(count, "step").replace(' ', "")),
            Every::Epochs(count) => f.write_str(&plural(count, "epoch").replace(' ', "")),
            Every::Never => f.write_str("never"),
        }
    }
}

impl TryFrom<toml::Value> for Every {
    type Error = String;
    fn try_from(value: toml::Value) -> Result<Self, String> {
        let text = match &value {
            toml::Value::Integer(steps) => steps.to_string(),
            toml::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        text.parse().map_err(|e| format!("{value}: {e}"))
    }
}

impl From<Every> for String {
    fn from(every: Every) -> String {
        every.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Every {
        Every::Time(Duration::from_secs(seconds))
    }

    #[test]
    fn every_form_is_understood_and_printed_in_the_canonical_one() {
        for (typed, meant, printed) in [
            ("90s", seconds(90), "90s"),
            ("10min", seconds(600), "10min"),
            ("120s", seconds(120), "2min"),
            ("2h", seconds(7200), "2h"),
            ("90min", seconds(5400), "90min"),
            ("1s", seconds(1), "1s"),
            ("4294967296s", seconds(1 << 32), "4294967296s"),
            ("200", Every::Steps(200), "200steps"),
            ("200step", Every::Steps(200), "200steps"),
            ("200steps", Every::Steps(200), "200steps"),
            ("1", Every::Steps(1), "1step"),
            ("1epoch", Every::Epochs(1), "1epoch"),
            ("3epochs", Every::Epochs(3), "3epochs"),
            ("007epochs", Every::Epochs(7), "7epochs"),
            ("never", Every::Never, "never"),
        ] {
            assert_eq!(typed.parse(), Ok(meant), "{typed}");
            assert_eq!(meant.to_string(), printed);
            assert_eq!(printed.parse(), Ok(meant));
        }
    }

    #[test]
    fn nonsense_is_refused_with_the_forms() {
        for typed in [
            "",
            " ",
            "0",
            "0s",
            "0min",
            "0epochs",
            "-1",
            "-5min",
            "+5",
            "1.5h",
            "5 min",
            "min",
            "steps",
            "10m",
            "10Min",
            "1d",
            "4294967297",
            "4294967296min",
            "99999999999999999999",
            "99999999999999999999h",
            "Never",
            "off",
            "١s",
            "1epochsx",
            "é",
        ] {
            let error = typed.parse::<Every>().expect_err(typed);
            assert!(error.contains("90s, 10min") && error.contains("never"), "{error}");
        }
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct File {
        every: Every,
    }

    #[test]
    fn toml_and_json_hold_it_as_text_or_as_a_number_of_steps() {
        for every in [seconds(600), Every::Steps(7), Every::Epochs(1), Every::Never] {
            let text = toml::to_string(&File { every }).unwrap();
            assert_eq!(text, format!("every = \"{every}\"\n"));
            assert_eq!(toml::from_str(&text), Ok(File { every }));
            let json = serde_json::to_string(&every).unwrap();
            assert_eq!(serde_json::from_str::<Every>(&json).unwrap(), every);
        }
        assert_eq!(toml::from_str("every = 50"), Ok(File { every: Every::Steps(50) }));
        for bad in ["0", "-3", "1.5", "true", "\"soon\"", "[1]", "9999999999"] {
            let error = toml::from_str::<File>(&format!("every = {bad}")).unwrap_err().to_string();
            assert!(error.contains("10min"), "{bad}: {error}");
        }
    }
}
