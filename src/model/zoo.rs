//! The networks that come with the program, and how one is chosen.

use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::spec::ModelSpec;
use crate::error::{Error, Result, nearest};

/// Name and text of each.
const MODELS: [(&str, &str); 5] = [
    ("glasses", include_str!("zoo/glasses.toml")),
    ("glasses-deep", include_str!("zoo/glasses-deep.toml")),
    ("glasses-wide", include_str!("zoo/glasses-wide.toml")),
    ("mnist", include_str!("zoo/mnist.toml")),
    ("spiral", include_str!("zoo/spiral.toml")),
];

/// The names, in the order of the documentation.
pub fn names() -> impl Iterator<Item = &'static str> {
    MODELS.iter().map(|(name, _)| *name)
}

/// The network of that name.
///
/// # Errors
/// When there is none; the nearest name is suggested.
pub fn find(name: &str) -> Result<ModelSpec> {
    match MODELS.iter().find(|(known, _)| *known == name) {
        Some((_, text)) => ModelSpec::parse(text, name),
        None => Err(Error::invalid(
            "--model",
            format!("'{name}'"),
            format!(
                "one of {}, or the path of a model file that ends in .toml",
                names().collect::<Vec<_>>().join(", ")
            ),
            nearest(name, names()).map_or("see 'Models' in README.md".to_owned(), |n| format!("did you mean '{n}'?")),
        )),
    }
}

/// A network by name, by file, or written out (as in the `config.toml` of a run that used a file).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, try_from = "toml::Value")]
pub enum ModelChoice {
    /// A name of the zoo, or a path that ends in `.toml`.
    Name(String),
    /// The network itself.
    Spec(ModelSpec),
}

impl FromStr for ModelChoice {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(ModelChoice::Name(text.to_owned()))
    }
}

/// By hand, because an untagged enum's errors do not say what is wrong with the network.
impl TryFrom<toml::Value> for ModelChoice {
    type Error = String;
    fn try_from(value: toml::Value) -> Result<Self, String> {
        match value {
            toml::Value::String(name) => Ok(ModelChoice::Name(name)),
            toml::Value::Table(table) => {
                table.try_into().map(ModelChoice::Spec).map_err(|e: toml::de::Error| e.message().to_owned())
            }
            other => Err(format!("model = {other}: expected a name, a file, or a table with name and layers")),
        }
    }
}

impl ModelChoice {
    /// The network.
    ///
    /// # Errors
    /// When the name is not known or the file cannot be read.
    pub fn resolve(&self) -> Result<ModelSpec> {
        match self {
            ModelChoice::Spec(spec) => Ok(spec.clone()),
            ModelChoice::Name(name) if name.ends_with(".toml") => ModelSpec::read(Path::new(name)),
            ModelChoice::Name(name) => find(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_network_parses_under_its_own_name() {
        for name in names() {
            assert_eq!(find(name).unwrap().name, name);
        }
        assert!(find("glases").unwrap_err().to_string().contains("did you mean 'glasses'?"));
    }
}
