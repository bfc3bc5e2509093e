//! A model as text, and back. It reads like the paper's notation:
//!
//! ```toml
//! name = "tiny"
//! layers = ["conv 5x5x16", "relu", "maxpool 2", "flatten", "dense 128", "relu", "dropout 0.1", "dense classes"]
//! ```

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, in_words};
use crate::kernels::{Activation, Padding, Window};

/// A network, before it meets data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// What to call it in files and folders.
    pub name: String,
    /// The input it is meant for, `[h, w, c]`, if it only works for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<[usize; 3]>,
    /// The layers, first to last; softmax and cross-entropy follow by themselves.
    pub layers: Vec<LayerSpec>,
}

/// One layer, as written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum LayerSpec {
    /// `conv 3x3x16 [stride 2] [pad same|N]`: window height x width x output channels.
    Conv {
        /// The sliding window.
        window: Window,
        /// Output channels.
        c_out: usize,
    },
    /// `maxpool 2 [stride 2] [pad same|N]`; the stride is the window unless given.
    MaxPool(Window),
    /// `avgpool 2 [stride 2] [pad same|N]`
    AvgPool(Window),
    /// `global_avgpool`: the mean of each channel.
    GlobalAvgPool,
    /// `flatten`: an image becomes a vector, in the order height, width, channel.
    Flatten,
    /// `dense 128`; `dense classes` has as many outputs as the data has classes.
    Dense(Option<usize>),
    /// `relu`, `leaky_relu [slope]`, `sigmoid`, `tanh`
    Activation(Activation),
    /// `dropout 0.1`: the probability of a zero.
    Dropout(f32),
    /// `softmax`: may stand last, for readers; it is part of the loss.
    Softmax,
}

const WORDS: [&str; 12] = [
    "conv",
    "maxpool",
    "avgpool",
    "global_avgpool",
    "flatten",
    "dense",
    "relu",
    "leaky_relu",
    "sigmoid",
    "tanh",
    "dropout",
    "softmax",
];

impl ModelSpec {
    /// Reads a model file.
    ///
    /// # Errors
    /// When the file cannot be read, is not TOML, or holds a layer that we do not know.
    pub fn read(path: &Path) -> Result<Self> {
        let text = crate::files::read_text(path)?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Parses a model's TOML; `place` is named in errors.
    ///
    /// # Errors
    /// As for [`ModelSpec::read`].
    pub fn parse(text: &str, place: &str) -> Result<Self> {
        toml::from_str(text).map_err(|e| {
            let found = in_words(&e.message().replace('\n', " ")).trim_start_matches("found ").to_owned();
            let line = e.span().map_or(1, |span| 1 + text[..span.start.min(text.len())].matches('\n').count());
            Error::invalid(
                format!("{place}, line {line}"),
                found,
                "a model: name = \"…\" and layers = [\"conv 5x5x16\", \"relu\", …, \"dense classes\"]",
                "see 'Models' in README.md, or `glasses info --model glasses` for an example",
            )
        })
    }
}

impl TryFrom<String> for LayerSpec {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<LayerSpec> for String {
    fn from(layer: LayerSpec) -> String {
        layer.to_string()
    }
}

impl FromStr for LayerSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        let word = words.next().unwrap_or_default();
        let rest: Vec<&str> = words.collect();
        let number = |range: std::ops::RangeInclusive<f32>, what: &str| -> Result<f32, String> {
            let value = rest.first().and_then(|w| w.parse().ok()).filter(|v| range.contains(v) && rest.len() == 1);
            value.ok_or_else(|| format!("layer '{text}': expected {what}"))
        };
        let alone = |layer: LayerSpec| {
            if rest.is_empty() { Ok(layer) } else { Err(format!("layer '{text}': expected nothing after '{word}'")) }
        };
        match word {
            "conv" => {
                let (sizes, options) = rest.split_first().ok_or(format!("layer '{text}': expected 'conv 3x3x16'"))?;
                let [kh, kw, c_out] = sizes_of::<3>(sizes)
                    .ok_or_else(|| no_size(text, sizes, "height x width x channels, as in 'conv 3x3x16'"))?;
                Ok(LayerSpec::Conv { window: window(text, kh, kw, options, 1, Padding::Same)?, c_out })
            }
            "maxpool" | "avgpool" => {
                let (sizes, options) = rest.split_first().ok_or(format!("layer '{text}': expected '{word} 2'"))?;
                let one = sizes_of::<1>(sizes).map(|[k]| [k, k]);
                let [kh, kw] = one.or_else(|| sizes_of::<2>(sizes)).ok_or_else(|| {
                    no_size(text, sizes, &format!("a window, as in '{word} 2' or '{word} 3x2 stride 2'"))
                })?;
                let window = window(text, kh, kw, options, kh, Padding::Pixels(0))?;
                if kh != kw && !options.contains(&"stride") {
                    return Err(format!("layer '{text}': expected a stride, since the window is not square"));
                }
                Ok(if word == "maxpool" { LayerSpec::MaxPool(window) } else { LayerSpec::AvgPool(window) })
            }
            "global_avgpool" => alone(LayerSpec::GlobalAvgPool),
            "flatten" => alone(LayerSpec::Flatten),
            "dense" if rest == ["classes"] => Ok(LayerSpec::Dense(None)),
            "dense" => match rest[..] {
                [outputs] => match sizes_of::<1>(outputs) {
                    Some([outputs]) => Ok(LayerSpec::Dense(Some(outputs))),
                    None => Err(no_size(text, outputs, "a number of outputs or 'classes'")),
                },
                _ => Err(format!("layer '{text}': expected 'dense 128' or 'dense classes'")),
            },
            "relu" => alone(LayerSpec::Activation(Activation::Relu)),
            "leaky_relu" if rest.is_empty() => Ok(LayerSpec::Activation(Activation::LeakyRelu(0.01))),
            "leaky_relu" => number(0.0..=1.0, "a slope between 0 and 1")
                .map(|slope| LayerSpec::Activation(Activation::LeakyRelu(slope))),
            "sigmoid" => alone(LayerSpec::Activation(Activation::Sigmoid)),
            "tanh" => alone(LayerSpec::Activation(Activation::Tanh)),
            "dropout" => number(0.0..=0.999, "a probability of at least 0 and below 1").map(LayerSpec::Dropout),
            "softmax" => alone(LayerSpec::Softmax),
            _ => Err(format!(
                "unknown layer '{text}'{}; known: {}",
                crate::error::nearest(word, WORDS).map(|w| format!(" (did you mean '{w}'?)")).unwrap_or_default(),
                WORDS.join(", ")
            )),
        }
    }
}

/// The largest number in a layer.
const MOST: usize = u16::MAX as usize;

/// What is said of a layer with a size that is none: of one beyond the limit, that; else what was expected.
fn no_size(layer: &str, sizes: &str, expected: &str) -> String {
    let too_large = |size: &&str| {
        size.bytes().all(|byte| byte.is_ascii_digit())
            && size.trim_start_matches('0').len() >= 5
            && size.parse().is_ok_and(|size: u128| size > MOST as u128)
    };
    match sizes.split(['x', '×']).find(too_large) {
        Some(size) => format!("layer '{layer}': {size} is too large: at most {MOST} fits, write a smaller number"),
        None => format!("layer '{layer}': expected {expected}"),
    }
}

/// `3x3x16` as numbers from 1 to [`MOST`].
fn sizes_of<const N: usize>(text: &str) -> Option<[usize; N]> {
    let sizes: Vec<usize> = text.split(['x', '×']).map(|s| s.parse().ok()).collect::<Option<_>>()?;
    let sizes: [usize; N] = sizes.try_into().ok()?;
    sizes.iter().all(|size| (1..=MOST).contains(size)).then_some(sizes)
}

fn window(
    text: &str,
    kh: usize,
    kw: usize,
    options: &[&str],
    stride: usize,
    padding: Padding,
) -> Result<Window, String> {
    let mut window = Window { kh, kw, stride, padding };
    for option in options.chunks(2) {
        match option {
            ["stride", n] => {
                window.stride = sizes_of::<1>(n).ok_or_else(|| no_size(text, n, "'stride 2', a whole number"))?[0];
            }
            ["pad", "same"] => window.padding = Padding::Same,
            ["pad", n] => {
                let pad = n.parse().ok().filter(|&pad: &usize| pad <= MOST);
                window.padding =
                    Padding::Pixels(pad.ok_or_else(|| no_size(text, n, "'pad same' or 'pad 1', a number of pixels"))?);
            }
            other => {
                return Err(format!(
                    "layer '{text}': expected 'stride N', 'pad N' or 'pad same', found '{}'",
                    other.join(" ")
                ));
            }
        }
    }
    Ok(window)
}

impl fmt::Display for LayerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pool = |f: &mut fmt::Formatter<'_>, word: &str, window: &Window| {
            if window.kh == window.kw {
                write!(f, "{word} {}", window.kh)?;
            } else {
                write!(f, "{word} {}x{}", window.kh, window.kw)?;
            }
            if window.kh != window.kw || window.stride != window.kh {
                write!(f, " stride {}", window.stride)?;
            }
            match window.padding {
                Padding::Same => write!(f, " pad same"),
                Padding::Pixels(0) => Ok(()),
                Padding::Pixels(pad) => write!(f, " pad {pad}"),
            }
        };
        match self {
            LayerSpec::Conv { window, c_out } => {
                write!(f, "conv {}x{}x{c_out}", window.kh, window.kw)?;
                if window.stride != 1 {
                    write!(f, " stride {}", window.stride)?;
                }
                match window.padding {
                    Padding::Same => Ok(()),
                    Padding::Pixels(pad) => write!(f, " pad {pad}"),
                }
            }
            LayerSpec::MaxPool(window) => pool(f, "maxpool", window),
            LayerSpec::AvgPool(window) => pool(f, "avgpool", window),
            LayerSpec::GlobalAvgPool => write!(f, "global_avgpool"),
            LayerSpec::Flatten => write!(f, "flatten"),
            LayerSpec::Dense(Some(outputs)) => write!(f, "dense {outputs}"),
            LayerSpec::Dense(None) => write!(f, "dense classes"),
            LayerSpec::Activation(Activation::Relu) => write!(f, "relu"),
            LayerSpec::Activation(Activation::LeakyRelu(0.01)) => write!(f, "leaky_relu"),
            LayerSpec::Activation(Activation::LeakyRelu(slope)) => write!(f, "leaky_relu {slope}"),
            LayerSpec::Activation(Activation::Sigmoid) => write!(f, "sigmoid"),
            LayerSpec::Activation(Activation::Tanh) => write!(f, "tanh"),
            LayerSpec::Dropout(p) => write!(f, "dropout {p}"),
            LayerSpec::Softmax => write!(f, "softmax"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_print_as_they_were_written() {
        for text in [
            "conv 5x5x16",
            "conv 3x5x8 stride 2 pad 1",
            "maxpool 2",
            "maxpool 3 stride 2 pad same",
            "avgpool 3x2 stride 2 pad 1",
            "global_avgpool",
            "flatten",
            "dense 128",
            "dense classes",
            "relu",
            "leaky_relu",
            "leaky_relu 0.2",
            "sigmoid",
            "tanh",
            "dropout 0.1",
            "softmax",
        ] {
            assert_eq!(text.parse::<LayerSpec>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_layer_that_cannot_be_is_refused_with_what_was_expected() {
        for (text, want) in [
            ("covn 3x3x16", "did you mean 'conv'?"),
            ("conv 3x3", "height x width x channels"),
            ("conv 3x0x4", "height x width x channels"),
            ("conv 3x3x4 stride 0", "stride 2"),
            ("conv 3x3x4 pad -1", "pad same"),
            ("conv 3x3x4 strid 2", "'stride N'"),
            ("dropout 1", "below 1"),
            ("dropout nan", "below 1"),
            ("dense", "dense 128"),
            ("relu 3", "nothing after"),
            ("maxpool 3x2", "not square"),
            ("dense 100000", "100000 is too large: at most 65535 fits"),
            ("conv 3x3x100000", "100000 is too large"),
            ("avgpool 3 stride 65536", "65536 is too large"),
            ("maxpool 70000", "70000 is too large"),
            ("conv 3x3x4 pad 99999999999999999999999999", "is too large"),
            ("", "unknown layer"),
        ] {
            let refused = text.parse::<LayerSpec>().unwrap_err();
            assert!(refused.contains(want), "{text}: {refused}");
        }
    }
}
