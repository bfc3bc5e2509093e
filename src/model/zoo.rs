//! The networks that come with the program.

use super::spec::ModelSpec;
use crate::error::{Error, Result, nearest};

/// Name and text of each.
const MODELS: [(&str, &str); 15] = [
    ("glasses", include_str!("zoo/glasses.toml")),
    ("glasses-deep", include_str!("zoo/glasses-deep.toml")),
    ("glasses-wide", include_str!("zoo/glasses-wide.toml")),
    ("mnist", include_str!("zoo/mnist.toml")),
    ("spiral", include_str!("zoo/spiral.toml")),
    ("convnet", include_str!("zoo/convnet.toml")),
    ("resnet9", include_str!("zoo/resnet9.toml")),
    ("resnet20", include_str!("zoo/resnet20.toml")),
    ("resnet32", include_str!("zoo/resnet32.toml")),
    ("resnet56", include_str!("zoo/resnet56.toml")),
    ("resnet18", include_str!("zoo/resnet18.toml")),
    ("resnet34", include_str!("zoo/resnet34.toml")),
    ("resnet50", include_str!("zoo/resnet50.toml")),
    ("mobilenet_v2", include_str!("zoo/mobilenet_v2.toml")),
    ("efficientnet_lite0", include_str!("zoo/efficientnet_lite0.toml")),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Engine, Model};

    #[test]
    fn every_network_parses_under_its_own_name() {
        for name in names() {
            assert_eq!(find(name).unwrap().name, name);
        }
        assert!(find("glases").unwrap_err().to_string().contains("did you mean 'glasses'?"));
    }

    #[test]
    fn networks_of_papers_have_as_many_parameters_as_in_pytorch() {
        for (name, classes, parameters) in [
            ("resnet18", 1000, 11_689_512),
            ("resnet34", 1000, 21_797_672),
            ("resnet50", 1000, 25_557_032),
            ("mobilenet_v2", 1000, 3_504_872),
            ("efficientnet_lite0", 1000, 4_652_008),
            ("resnet20", 10, 272_474),
            ("convnet", 2, 307_618),
        ] {
            for input in [[224, 224, 3], [64, 96, 3], [33, 32, 3]] {
                let model = Model::new(find(name).unwrap(), input, false, classes, Engine::Direct).unwrap();
                assert_eq!(model.parameters(), parameters, "{name}");
            }
        }
    }
}
