//! The keys of layers for other programs: the names of blocks and layers, and places in lists, as PyTorch's modules have them.

use std::collections::HashSet;

/// The way to a layer through the blocks that it stands in.
#[derive(Clone, Debug, Default)]
pub struct KeyPath {
    /// As in `layer1.0.conv1`: residual blocks, branches and factors without a name add nothing.
    short: String,
    /// With these, as in `layer1.0.residual.conv1`.
    full: String,
    /// Whether a block or a layer on it has a name.
    is_named: bool,
}

impl KeyPath {
    /// On to a block or a layer of a list: its name, or else its place.
    pub fn item(&self, name: Option<&str>, place: usize) -> KeyPath {
        let step = name.map_or_else(|| place.to_string(), str::to_owned);
        let add = |path: &str| if path.is_empty() { step.clone() } else { format!("{path}.{step}") };
        KeyPath { short: add(&self.short), full: add(&self.full), is_named: self.is_named || name.is_some() }
    }

    /// On to a list of a joining block without a name, the block at `place`, or one of several.
    pub fn list(&self, list: &str) -> KeyPath {
        let full = if self.full.is_empty() { list.to_owned() } else { format!("{}.{list}", self.full) };
        KeyPath { full, ..self.clone() }
    }

    /// The same in front of what a joining block without a name at `place` holds.
    pub fn join(&self, place: usize) -> KeyPath {
        self.list(&place.to_string())
    }
}

/// The keys of layers of these paths; `numbered` are those of networks that name nothing. Where two that have weights would have one key, all
/// have theirs in full.
pub fn keys(paths: &[KeyPath], has_weights: &[bool], numbered: impl Iterator<Item = String>) -> Vec<String> {
    if !paths.iter().any(|path| path.is_named) {
        return numbered.collect();
    }
    let mut short = HashSet::new();
    let mut weighted = paths.iter().zip(has_weights).filter(|(_, has_weights)| **has_weights);
    let is_short = weighted.all(|(path, _)| short.insert(path.short.as_str()));
    paths.iter().map(|path| if is_short { path.short.clone() } else { path.full.clone() }).collect()
}
