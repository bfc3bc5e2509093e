//! What to do about a window that does not fit: the padding or the picture's size with which it does; and about branches
//! that cannot be joined.

use super::ops::{AvgPool, MaxPool, Op};
use super::shape::Shape;
use super::spec::{BlockKind, Item, ModelSpec};
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

/// The strides with which a shortcut is tried.
const STRIDES: [usize; 5] = [1, 2, 3, 4, 8];

/// Which two ends of a block `op` cannot join, by their places in the text.
pub fn differ(block: &BlockKind, op: &Op, ends: &[&Shape]) -> String {
    let cannot = |other: &usize| op.output(&[ends[0], ends[*other]], 1).is_err();
    let Some(other) = (1..ends.len()).find(cannot) else { return "too many values together".to_owned() };
    let (one, two) = (ends[0], ends[other]);
    match block {
        BlockKind::Residual { shortcut, .. } if shortcut.is_empty() => {
            format!("the layers give {one}, the block's input is {two}")
        }
        BlockKind::Residual { .. } => format!("the layers give {one}, the shortcut {two}"),
        BlockKind::Scale(_) => format!("the block's input is {one}, the layers give {two}"),
        _ => format!("branches[0] gives {one}, branches[{other}] {two}"),
    }
}

/// What to do about ends of a block that cannot be joined: the block reads `input`, and its lists give `ends`.
pub fn join_advice(block: &BlockKind, input: &Shape, ends: &[&Shape]) -> String {
    let end = ends[0];
    match (block, shortcut(input, end)) {
        (BlockKind::Scale(_), _) => {
            let channels = input.channels();
            let dense = format!("\"dense {channels}\", \"sigmoid\"");
            match ends[ends.len() - 1].as_image() {
                Ok(_) => format!("end the list in \"global_avgpool\", {dense}"),
                Err(_) => format!("end the list in {dense}"),
            }
        }
        (BlockKind::Residual { shortcut, .. }, Some(way)) if shortcut.is_empty() => {
            format!("add a shortcut beside 'residual', such as shortcut = [{way}], or let the layers keep the shape")
        }
        (BlockKind::Residual { .. }, Some(way)) => format!("shortcut = [{way}] gives {end}, as these layers do"),
        (BlockKind::Residual { .. }, None) => "let the layers and the shortcut end in one shape".to_owned(),
        _ => "change the layers of one of the two".to_owned(),
    }
}

/// The text of layers that make `end` of `input`.
fn shortcut(input: &Shape, end: &Shape) -> Option<String> {
    match (input.as_image(), end.sizes()) {
        (Ok(_), &[_, _, channels]) => STRIDES.iter().find_map(|stride| {
            let text = if *stride == 1 { String::new() } else { format!(" stride {stride}") };
            let text = format!("conv 1x1x{channels}{text}");
            let op: Op = text.parse().ok()?;
            (op.output(&[input], 1).ok()? == *end).then(|| format!("\"{text}\""))
        }),
        (Ok(_), &[size]) => Some(format!("\"flatten\", \"dense {size}\"")),
        (Err(_), &[size]) => Some(format!("\"dense {size}\"")),
        _ => None,
    }
}
