//! What to do about a window that does not fit: the padding or the picture's size with which it does.

use super::ops::{AvgPool, MaxPool, Op};
use super::spec::{Item, ModelSpec};
use crate::kernels::{Padding, Window};

/// So far from the given side others are looked for.
const NEAR: usize = 64;

/// A line for a layer that refuses what reaches it; nothing where no padding and no size near would help. `fits` says whether a network takes
/// an input.
pub fn advice(
    spec: &ModelSpec,
    layer: usize,
    [h, w, c]: [usize; 3],
    fits: impl Fn(&ModelSpec, [usize; 3]) -> bool,
) -> Option<String> {
    let mut padded = spec.clone();
    let window = window_of(padded.layers.get_mut(layer)?)?;
    window.padding = Padding::Same;
    let mut ways = Vec::new();
    // Later layers may want the same.
    for later in &mut padded.layers[layer + 1..] {
        if let Item::Layer(Op::MaxPool(MaxPool(window)) | Op::AvgPool(AvgPool(window))) = later
            && window.padding == Padding::Pixels(0)
        {
            window.padding = Padding::Same;
        }
    }
    if fits(&padded, [h, w, c]) {
        ways.push(format!("write '{}', and the pools behind it with 'pad same', too", layer_text(&padded, layer)));
    }
    let near = |side: usize| {
        let both = (1..=NEAR).flat_map(|far| [Some(side + far), side.checked_sub(far)]);
        std::iter::once(Some(side)).chain(both).flatten().filter(|&side| side > 0).find(|&s| fits(spec, [s, s, c]))
    };
    if let (Some(h), Some(w)) = (near(h), near(w))
        && fits(spec, [h, w, c])
    {
        let size = if h == w { h.to_string() } else { format!("{h}x{w}") };
        ways.push(format!("ingest the pictures with --size {size}"));
    }
    (!ways.is_empty()).then(|| ways.join(", or "))
}

fn window_of(item: &mut Item) -> Option<&mut Window> {
    match item {
        Item::Layer(op) => op.window_mut(),
        Item::Block(_) => None,
    }
}

fn layer_text(spec: &ModelSpec, layer: usize) -> String {
    match spec.layers.get(layer) {
        Some(Item::Layer(op)) => op.to_string(),
        _ => String::new(),
    }
}
