//! What is said of a layer or a block that does not fit.

use super::ops::Op;
use super::shape::Shape;

/// A layer or a block that is refused.
pub struct Refusal {
    /// Where it stands.
    pub place: String,
    /// What was found there.
    pub found: String,
    /// What was expected.
    pub expected: String,
    /// What to do.
    pub fix: String,
    /// The layer's place in the list, where that is the network's own and the layer does not fit.
    pub index: Option<usize>,
}

impl Refusal {
    /// A layer that does not fit the shape that reaches it.
    pub fn layer(place: String, input: &Shape, why: &str, index: Option<usize>) -> Refusal {
        let fix = "change this layer or the ones before it".to_owned();
        let expected = "a layer that fits the shape that reaches it".to_owned();
        Refusal { place, found: format!("input {input}: {why}"), expected, fix, index }
    }

    /// What no shape would mend.
    pub fn text(place: String, found: String, expected: &str, fix: &str) -> Refusal {
        Refusal { place, found, expected: expected.to_owned(), fix: fix.to_owned(), index: None }
    }
}

/// Where layer `index` of a list of block `block` stands, for a person.
pub fn layer_place(block: &str, index: usize, op: &Op) -> String {
    if block.is_empty() { format!("layer {index} '{op}'") } else { format!("{block}, layer {index} '{op}'") }
}
