//! A model as text, and back. It reads like the paper's notation:
//!
//! ```toml
//! name = "tiny"
//! layers = [
//!     "stem: conv 3x3x16", "relu",
//!     { name = "layer1", repeat = 2, layers = [{ residual = ["conv 3x3x16", "relu", "conv 3x3x16"] }, "relu"] },
//!     { scale = ["global_avgpool", "dense 4", "relu", "dense 16", "sigmoid"] },
//!     { branches = [["conv 1x1x16"], ["maxpool 3 stride 1 pad 1"]], join = "concat" },
//!     "global_avgpool", "dense classes",
//! ]
//! ```

use std::fmt;
use std::path::Path;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::ops::Op;
use crate::error::{Error, Result, in_words};
use crate::plural::plural;

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
    pub layers: Vec<Item>,
}

/// What stands in a list of layers.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// One layer.
    Layer(Op),
    /// Layers that belong together.
    Block(Box<Block>),
}

/// Layers that belong together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "BlockText", into = "BlockText")]
pub struct Block {
    /// What to call it.
    pub name: Option<String>,
    /// How often it follows itself, each time with weights of its own.
    pub repeat: usize,
    /// What it does.
    pub kind: BlockKind,
}

/// What a block does.
#[derive(Clone, Debug, PartialEq)]
pub enum BlockKind {
    /// One layer after another.
    Layers(Vec<Item>),
    /// The sum of what the layers make of the input and of the input itself, or of what the shortcut makes of it.
    Residual {
        /// The layers.
        layers: Vec<Item>,
        /// The way around them; nothing, where the input is added as it is.
        shortcut: Vec<Item>,
    },
    /// The input times what the layers make of it: one factor a channel.
    Scale(Vec<Item>),
    /// What several lists of layers make of the input, joined. An empty one passes the input on.
    Branches {
        /// The lists.
        branches: Vec<Vec<Item>>,
        /// How they are joined.
        join: Join,
    },
}

/// How branches become one tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Join {
    /// Their sum.
    Add,
    /// Their channels, one after another.
    Concat,
}

/// A block as it is written.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BlockText {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    repeat: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    layers: Option<Vec<Item>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    residual: Option<Vec<Item>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shortcut: Option<Vec<Item>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scale: Option<Vec<Item>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    branches: Option<Vec<Vec<Item>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    join: Option<Join>,
}

/// The most often that a block may follow itself.
const MOST_REPEATS: usize = 1000;

impl TryFrom<BlockText> for Block {
    type Error = String;

    fn try_from(text: BlockText) -> Result<Self, String> {
        let BlockText { name, repeat, layers, residual, shortcut, scale, branches, join } = text;
        let is_word = |name: &String| {
            let is_number = name.chars().all(|c| c.is_ascii_digit());
            (1..=64).contains(&name.len()) && !is_number && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        if let Some(name) = name.as_ref().filter(|name| !is_word(name)) {
            return Err(format!(
                "a block's name {name:?}, expected up to 64 letters, digits and '_', not digits alone"
            ));
        }
        let repeat = repeat.unwrap_or(1);
        if repeat == 0 || repeat > MOST_REPEATS {
            return Err(format!("repeat = {repeat}, expected a number from 1 to {MOST_REPEATS}"));
        }
        if shortcut.is_some() && residual.is_none() {
            return Err("a shortcut without a residual, expected both: { residual = [\"conv 3x3x32\", …], shortcut = [\"conv 1x1x32\"] }".to_owned());
        }
        if join.is_some() != branches.is_some() {
            return Err("a block with branches or a join, expected both: { branches = [[…], […]], join = \"concat\" } (or \"add\")".to_owned());
        }
        let kind = match (layers, residual, scale, branches) {
            (Some(layers), None, None, None) if !layers.is_empty() => BlockKind::Layers(layers),
            (None, Some(layers), None, None) if !layers.is_empty() => {
                BlockKind::Residual { layers, shortcut: shortcut.unwrap_or_default() }
            }
            (None, None, Some(layers), None) if !layers.is_empty() => BlockKind::Scale(layers),
            (None, None, None, Some(branches)) if branches.len() > 1 => {
                BlockKind::Branches { branches, join: join.unwrap_or(Join::Concat) }
            }
            (None, None, None, Some(branches)) => {
                return Err(format!("a block of {}, expected two or more", plural(branches.len(), "branch")));
            }
            (Some(_), None, None, None) | (None, Some(_), None, None) | (None, None, Some(_), None) => {
                return Err("a block without a layer, expected one or more".to_owned());
            }
            _ => {
                return Err("a block that is none of four kinds, expected one of layers = […], residual = […], scale = […] or branches = [[…], […]]".to_owned());
            }
        };
        Ok(Block { name, repeat, kind })
    }
}

impl Block {
    /// Its name and its layer, where it is one layer with a name.
    pub fn named_layer(&self) -> Option<(&str, &Op)> {
        match (&self.name, self.repeat, &self.kind) {
            (Some(name), 1, BlockKind::Layers(layers)) => match &layers[..] {
                [Item::Layer(op)] => Some((name, op)),
                _ => None,
            },
            _ => None,
        }
    }
}

impl Item {
    /// The layer that comes first in it, where that is one alone.
    pub fn first(&self) -> Option<&Op> {
        match self {
            Item::Layer(op) => Some(op),
            Item::Block(block) => match &block.kind {
                BlockKind::Layers(layers) => layers.first()?.first(),
                _ => None,
            },
        }
    }
}

impl From<Block> for BlockText {
    fn from(Block { name, repeat, kind }: Block) -> BlockText {
        let text = BlockText { name, repeat: (repeat > 1).then_some(repeat), ..BlockText::default() };
        match kind {
            BlockKind::Layers(layers) => BlockText { layers: Some(layers), ..text },
            BlockKind::Residual { layers, shortcut } => {
                let shortcut = (!shortcut.is_empty()).then_some(shortcut);
                BlockText { residual: Some(layers), shortcut, ..text }
            }
            BlockKind::Scale(layers) => BlockText { scale: Some(layers), ..text },
            BlockKind::Branches { branches, join } => BlockText { branches: Some(branches), join: Some(join), ..text },
        }
    }
}

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
            // The parser's own limit, which stands behind ours (`builder.rs`).
            let found = match found.contains("recursion") {
                true => "blocks that stand too deep in one another, expected fewer".to_owned(),
                false => found,
            };
            let a_model = "a model: name = \"…\" and layers = [\"conv 5x5x16\", \"relu\", …, \"dense classes\"]";
            let fix = "see 'Models' in README.md, or `glasses info --model glasses` for an example";
            Error::invalid(format!("{place}, line {line}"), found, a_model, fix)
        })
    }

    /// A network of layers that follow one another.
    pub fn chain(name: &str, layers: impl IntoIterator<Item = Op>) -> ModelSpec {
        ModelSpec { name: name.to_owned(), input: None, layers: layers.into_iter().map(Item::Layer).collect() }
    }
}

impl Serialize for Item {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Item::Layer(op) => op.serialize(serializer),
            Item::Block(block) => match block.named_layer() {
                Some((name, op)) => format!("{name}: {op}").serialize(serializer),
                None => block.serialize(serializer),
            },
        }
    }
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Item, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Item;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a layer such as \"conv 3x3x16\" (or \"stem: conv 3x3x16\", with a name), or a block such as { residual = [\"conv 3x3x16\"] }")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Item, E> {
                match text.split_once(':') {
                    None => text.parse().map(Item::Layer).map_err(E::custom),
                    Some((name, layer)) => {
                        let layers = vec![Item::Layer(layer.parse().map_err(E::custom)?)];
                        let text = BlockText {
                            name: Some(name.trim().to_owned()),
                            layers: Some(layers),
                            ..BlockText::default()
                        };
                        Block::try_from(text).map(|block| Item::Block(Box::new(block))).map_err(E::custom)
                    }
                }
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Item, A::Error> {
                Block::deserialize(MapAccessDeserializer::new(map)).map(|block| Item::Block(Box::new(block)))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_print_as_they_were_written() {
        let text = "name = \"b\"\nlayers = [\"stem: conv 3x3x4\", { name = \"layer1\", repeat = 3, layers = [{ residual = [\"conv 3x3x4\"], shortcut = [\"conv 1x1x4\"] }, \"relu\"] }, { branches = [[\"conv 1x1x4\"], []], join = \"concat\" }, { scale = [\"global_avgpool\", \"dense 8\"] }, \"flatten\", \"dense classes\"]\n";
        let spec = ModelSpec::parse(text, "b").unwrap();
        let Item::Block(block) = &spec.layers[1] else { panic!("{spec:?}") };
        assert_eq!((block.name.as_deref(), block.repeat), (Some("layer1"), 3));
        let again = toml::to_string(&spec).unwrap();
        assert!(again.contains("\"stem: conv 3x3x4\""), "{again}");
        assert_eq!(ModelSpec::parse(&again, "b").unwrap(), spec, "{again}");
    }

    #[test]
    fn a_block_that_cannot_be_is_refused_with_what_was_expected() {
        for (block, want) in [
            ("{ residual = [] }", "one or more"),
            ("{ layers = [\"relu\"], residual = [\"relu\"] }", "one of layers"),
            ("{ shortcut = [\"conv 1x1x4\"] }", "expected both: { residual"),
            ("{ branches = [[\"relu\"], [\"relu\"]] }", "join = \"concat\""),
            ("{ branches = [[\"relu\"]], join = \"add\" }", "a block of 1 branch, expected two or more"),
            ("{ repeat = 0, layers = [\"relu\"] }", "from 1 to 1000"),
            ("{ name = \"a.b\", layers = [\"relu\"] }", "letters, digits"),
            ("\"a.b: relu\"", "letters, digits"),
            ("\"stem: rely\"", "did you mean 'relu'?"),
            ("\"1: relu\"", "not digits alone"),
            ("{ scale = [] }", "one or more"),
            ("{ scale = [\"relu\"], residual = [\"relu\"] }", "scale = […] or branches"),
            ("{ residuals = [\"relu\"] }", "unknown field `residuals`"),
            ("{ residual = [\"rely\"] }", "did you mean 'relu'?"),
            (&format!("{}\"relu\"{}", "{ layers = [".repeat(60), "] }".repeat(60)), "too deep in one another"),
            ("3", "such as \"conv 3x3x16\""),
        ] {
            let text = format!("name = \"b\"\nlayers = [{block}, \"dense classes\"]");
            let refused = ModelSpec::parse(&text, "b.toml").unwrap_err().to_string();
            assert!(refused.contains(want) && refused.contains("b.toml, line 2"), "{block}: {refused}");
        }
    }
}
