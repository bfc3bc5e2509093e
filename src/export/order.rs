//! The order of the values of a vector that was an image: ours, and that of programs that have channels first.

use crate::model::ops::Op;
use crate::model::{Model, Shape, Written};

/// The order of the values of a flattened image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Channel, row, column: as PyTorch has them.
    ChannelsFirst,
    /// Row, column, channel, as we have them; for networks that add vectors which have no order of PyTorch's in common.
    ChannelsLast,
}

/// A stretch of a vector: a flattened image `[h, w, c]`, whose order other programs have otherwise.
pub type Part = [usize; 3];

/// The order in which a network's images become vectors.
pub fn order(model: &Model) -> Order {
    if has_mixed_vectors(model) { Order::ChannelsLast } else { Order::ChannelsFirst }
}

/// What the vector in front of a layer was made of; an image has no parts.
pub fn parts_in_front<'p>(layer: &Written, parts_of: impl Fn(Option<usize>) -> Option<&'p [Part]>) -> Vec<Part> {
    let (input, shape) = &layer.inputs[0];
    parts_of(*input).map_or_else(|| vec![[1, 1, shape.len()]], <[Part]>::to_vec)
}

/// The same of the vector that a layer gives.
pub fn parts_behind<'p>(
    layer: &Written,
    order: Order,
    parts_of: impl Fn(Option<usize>) -> Option<&'p [Part]>,
) -> Vec<Part> {
    if layer.output.as_image().is_ok() {
        return Vec::new();
    }
    let whole = || vec![[1, 1, layer.output.len()]];
    match &layer.op {
        Op::Dense(_) | Op::GlobalAvgPool(_) | Op::GlobalMaxPool(_) => whole(),
        Op::Flatten(_) if layer.inputs[0].1.as_image().is_ok() => match (order, layer.inputs[0].1.as_image()) {
            (Order::ChannelsFirst, Ok(image)) => vec![image],
            _ => whole(),
        },
        Op::Concat(_) => {
            let of_input = |(input, shape): &(Option<usize>, Shape)| {
                parts_of(*input).map_or_else(|| vec![[1, 1, shape.len()]], <[Part]>::to_vec)
            };
            layer.inputs.iter().flat_map(of_input).collect()
        }
        _ => parts_in_front(layer, parts_of),
    }
}

/// Whether channels first, values of vectors would not be where others expect them: partners in a sum or a product of vectors that are
/// made of different parts, the factors of an image's channels, or the weights of a normalisation.
fn has_mixed_vectors(model: &Model) -> bool {
    let mut ends: Vec<Vec<Part>> = Vec::new();
    for layer in &model.graph.written {
        let parts_of = |layer: Option<usize>| layer.map(|layer| ends[layer].as_slice());
        let canonical = |(input, shape): &(Option<usize>, Shape)| {
            let parts = parts_of(*input).map_or_else(|| vec![[1, 1, shape.len()]], <[Part]>::to_vec);
            // Where nothing is moved, the values' places are their own.
            let is_moved = |[h, w, c]: &Part| h * w > 1 && *c > 1;
            if parts.iter().any(is_moved) { parts } else { vec![[1, 1, shape.len()]] }
        };
        let is_vector = layer.output.as_image().is_err();
        let first = match &layer.op {
            Op::Add(_) | Op::Scale(_) if is_vector => Some(canonical(&layer.inputs[0])),
            Op::LayerNorm(_) | Op::BatchNorm(_) if is_vector => Some(vec![[1, 1, layer.output.len()]]),
            Op::Scale(_) => Some(vec![[1, 1, layer.output.channels()]]),
            _ => None,
        };
        let vectors = layer.inputs.iter().filter(|(_, shape)| shape.as_image().is_err());
        if first.is_some_and(|first| vectors.into_iter().any(|input| canonical(input) != first)) {
            return true;
        }
        let parts = parts_behind(layer, Order::ChannelsFirst, parts_of);
        ends.push(parts);
    }
    false
}

/// The inputs of a dense layer that lie in a part of a vector, which begins at the first number: channel by channel.
pub fn inputs_channels_first((first, [h, w, c]): (usize, Part)) -> impl Iterator<Item = usize> {
    (0..c).flat_map(move |channel| (0..h * w).map(move |pixel| first + pixel * c + channel))
}
