//! `avgpool 2`, and what pools' texts have in common.

use std::fmt;

use super::operation::{Operation, Site};
use super::words::{Words, sizes_of};
use super::work::{Backward, Forward, Map, Work};
use crate::kernels::{self, Padding, PoolShape, Window};
use crate::model::shape::Shape;

/// The mean of the values under each window, clipped to the image.
#[derive(Clone, Debug, PartialEq)]
pub struct AvgPool(pub Window);

impl fmt::Display for AvgPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_pool(f, "avgpool", &self.0)
    }
}

impl Operation for AvgPool {
    fn parse(words: &Words<'_>) -> Result<AvgPool, String> {
        parse_pool(words).map(AvgPool)
    }

    fn output(&self, inputs: &[&Shape], _classes: usize) -> Result<Shape, String> {
        let shape = PoolShape::new(inputs[0].as_image()?, self.0)?;
        Shape::image([shape.h_out, shape.w_out, shape.channels]).checked()
    }

    fn work(&self, site: &Site<'_>) -> Result<Work, String> {
        Ok(work(PoolShape::new(site.inputs[0].as_image()?, self.0)?))
    }

    fn window_mut(&mut self) -> Option<&mut Window> {
        Some(&mut self.0)
    }
}

/// An average pool as work.
pub fn work(shape: PoolShape) -> Work {
    Work::Map(Box::new(AvgPoolWork(shape)))
}

#[derive(Clone, Debug)]
struct AvgPoolWork(PoolShape);

impl Map for AvgPoolWork {
    fn forward(&self, pass: Forward<'_>) {
        kernels::avgpool_forward(&self.0, pass.batch, pass.input, pass.output);
    }

    fn backward(&self, pass: Backward<'_>) {
        if let Some(d_input) = pass.d_input {
            kernels::avgpool_backward(&self.0, pass.batch, pass.d_output, d_input);
        }
    }

    fn reads_input(&self) -> bool {
        false
    }
}

/// `maxpool 2 [stride 2] [pad same|N]`, or with `avgpool`.
pub fn parse_pool(words: &Words<'_>) -> Result<Window, String> {
    let name = words.name;
    let (sizes, options) = words.sizes_and_options(&format!("'{name} 2'"))?;
    let one = sizes_of::<1>(sizes).map(|[k]| [k, k]);
    let [kh, kw] = one
        .or_else(|| sizes_of::<2>(sizes))
        .ok_or_else(|| words.no_size(sizes, &format!("a window, as in '{name} 2' or '{name} 3x2 stride 2'")))?;
    let window = words.window([kh, kw], options, kh, Padding::Pixels(0))?;
    if kh != kw && !options.contains(&"stride") {
        return Err(words.refuse("a stride, since the window is not square"));
    }
    Ok(window)
}

/// As it is written.
pub fn write_pool(f: &mut fmt::Formatter<'_>, name: &str, window: &Window) -> fmt::Result {
    if window.kh == window.kw {
        write!(f, "{name} {}", window.kh)?;
    } else {
        write!(f, "{name} {}x{}", window.kh, window.kw)?;
    }
    if window.kh != window.kw || window.stride != window.kh {
        write!(f, " stride {}", window.stride)?;
    }
    match window.padding {
        Padding::Same => write!(f, " pad same"),
        Padding::Pixels(0) => Ok(()),
        Padding::Pixels(pad) => write!(f, " pad {pad}"),
    }
}
