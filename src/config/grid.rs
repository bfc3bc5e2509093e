//! The settings of many runs: some keys, the values of each, and every combination.

use std::str::FromStr;

use clap::{Args, FromArgMatches};

use super::Settings;
use crate::error::{Error, Result, in_words, nearest};

/// Settings that name files of one run.
const OF_ONE_RUN: [&str; 2] = ["out", "trace"];

/// A setting and the values that it takes, one after the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// Its name: that of the option.
    pub key: String,
    values: Vec<Value>,
}

#[derive(Clone, Debug, PartialEq)]
struct Value {
    /// As a run's `config.toml` has it.
    text: String,
    settings: Settings,
}

/// One combination of values.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// The folder of its run: `lr0.001-batch16`.
    pub name: String,
    /// The value of each axis, as text.
    pub values: Vec<String>,
    /// The settings that these are.
    pub settings: Settings,
}

impl FromStr for Axis {
    type Err = String;

    fn from_str(text: &str) -> Result<Axis, String> {
        let form = "expected a setting and its values, as in lr=1e-1,1e-2,1e-3";
        let (key, values) = text.split_once('=').ok_or(form)?;
        let known = Settings::keys();
        if OF_ONE_RUN.contains(&key) {
            return Err(format!("'{key}' names what one run writes: a sweep gives each run a folder of its own"));
        }
        if !known.iter().any(|known| known == key) {
            return Err(match nearest(key, known.iter().map(String::as_str)) {
                Some(near) => format!("unknown setting '{key}': did you mean '{near}'?"),
                None => format!("unknown setting '{key}'; known ones: {}", known.join(", ")),
            });
        }
        let values = values.split(',').map(|value| Value::parse(key, value.trim())).collect::<Result<Vec<_>, _>>()?;
        if let Some(twice) = values.iter().enumerate().find_map(|(i, v)| values[..i].iter().find(|w| w.text == v.text))
        {
            return Err(format!("'{}' stands there twice", twice.text));
        }
        Ok(Axis { key: key.to_owned(), values })
    }
}

impl Value {
    /// As the option of that name would understand it.
    fn parse(key: &str, value: &str) -> Result<Value, String> {
        let command = Settings::augment_args(clap::Command::new("glasses").no_binary_name(true));
        let matches = command.try_get_matches_from([format!("--{key}={value}")]);
        let settings = matches.and_then(|matches| Settings::from_arg_matches(&matches)).map_err(|e| {
            let text = e.to_string();
            in_words(text.lines().next().unwrap_or_default().trim_start_matches("error: "))
        })?;
        let table = toml::Table::try_from(&settings).map_err(|e| e.to_string())?;
        let text = table.get(key).map(show).ok_or_else(|| format!("--{key}={value} sets nothing"))?;
        Ok(Value { text, settings })
    }
}

/// A value of `config.toml` as text: numbers in their shortest form.
pub fn show(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Float(number) => number.to_string(),
        toml::Value::Table(table) => table.get("name").map_or_else(|| value.to_string(), show),
        other => other.to_string(),
    }
}

/// All combinations, the last axis changing fastest, over what else is set.
///
/// # Errors
/// When a setting is said twice, or two runs would have the same folder.
pub fn points(axes: &[Axis], others: &Settings) -> Result<Vec<Point>> {
    let said = toml::Table::try_from(others).unwrap_or_default();
    for (index, axis) in axes.iter().enumerate() {
        if said.contains_key(&axis.key) || axes[..index].iter().any(|other| other.key == axis.key) {
            let fix = "give all its values in one --grid, and nowhere else";
            return Err(Error::invalid(format!("--grid {}", axis.key), "given twice", "once", fix));
        }
    }
    let mut points = vec![Point { name: String::new(), values: Vec::new(), settings: Settings::default() }];
    for axis in axes {
        let with = |point: &Point| -> Vec<Point> { axis.values.iter().map(|value| point.with(axis, value)).collect() };
        points = points.iter().flat_map(with).collect();
    }
    let mut names: Vec<&str> = points.iter().map(|point| point.name.as_str()).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|two| two[0] == two[1]) {
        let fix = "give them names that differ in letters, digits, '.', '_' or '-'";
        return Err(Error::invalid("--grid", format!("two runs called {}", twice[0]), "a folder each", fix));
    }
    for point in &mut points {
        point.settings = point.settings.clone().over(others.clone());
    }
    Ok(points)
}

impl Point {
    fn with(&self, axis: &Axis, value: &Value) -> Point {
        let safe: String =
            value.text.chars().map(|c| if c.is_alphanumeric() || "._-".contains(c) { c } else { '-' }).collect();
        let between = if safe.starts_with(|c: char| c.is_ascii_digit()) { "" } else { "-" };
        let before = if self.name.is_empty() { String::new() } else { format!("{}-", self.name) };
        Point {
            name: format!("{before}{}{between}{safe}", axis.key),
            values: self.values.iter().chain([&value.text]).cloned().collect(),
            settings: value.settings.clone().over(self.settings.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(text: &str) -> Axis {
        text.parse().unwrap()
    }

    #[test]
    fn every_combination_has_a_name_and_its_settings() {
        let others = Settings { epochs: Some(3), ..Settings::default() };
        let axes = [axis("lr=1e-1,0.001"), axis("batch=16,full"), axis("optimizer=sgd")];
        let points = points(&axes, &others).unwrap();
        let names: Vec<&str> = points.iter().map(|point| point.name.as_str()).collect();
        let [first, second] = ["lr0.1-batch16-optimizer-sgd", "lr0.1-batch-full-optimizer-sgd"];
        assert_eq!(names, [first, second, &first.replace("0.1", "0.001"), &second.replace("0.1", "0.001")]);
        assert_eq!(points[2].values, ["0.001", "16", "sgd"]);
        let config = points[2].settings.clone().lower(Settings::default(), 1).unwrap();
        assert_eq!((config.lr, config.epochs), (0.001, 3));
    }

    #[test]
    fn nonsense_is_refused_with_what_was_meant() {
        let refused = |text: &str| text.parse::<Axis>().unwrap_err();
        assert!(refused("lr").contains("lr=1e-1"));
        assert!(refused("bacth=16").contains("did you mean 'batch'?"));
        assert!(refused("lr=0.1,x").contains("invalid value 'x' for '--lr"), "{}", refused("lr=0.1,x"));
        assert!(refused("lr=0.1,1e-1").contains("twice"));
        assert!(refused("out=a,b").contains("folder of its own"));
        assert!(refused("lr=").contains("--lr"));
        let twice = points(&[axis("lr=1"), axis("lr=2")], &Settings::default()).unwrap_err().to_string();
        assert!(twice.contains("--grid lr"), "{twice}");
        let set = Settings { lr: Some(0.1), ..Settings::default() };
        assert!(points(&[axis("lr=1")], &set).is_err());
        assert!(points(&[axis("model=a/b.toml,a-b.toml")], &Settings::default()).is_err());
    }
}
