//! Which places of a window a pixel has to do with, along one axis. They are evenly spaced, in the window and in the image that is
//! read, forward and backward, whatever stride and dilation.

use super::super::super::shape::ConvShape;

/// One axis of a sweep that writes an image from another one.
#[derive(Clone, Copy, Debug)]
pub struct Axis {
    /// Pixels that are written, and pixels that are read.
    targets: usize,
    sources: usize,
    /// Places of the window.
    window: usize,
    stride: usize,
    dilation: usize,
    pad: usize,
    /// Whether the window's input is written, not its output.
    is_backward: bool,
}

/// Evenly spaced pixels under evenly spaced places of the window, in the order of the pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// How many.
    pub count: usize,
    /// The first pixel, and from one to the next.
    pub pixel: usize,
    pub pixel_step: usize,
    /// The first place, and from one to the next.
    pub place: usize,
    pub place_step: isize,
}

/// Pixels that are written alike: their places are the same.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// The first one.
    pub first: usize,
    /// How many.
    pub count: usize,
    /// The places of the first one; those of each other one are as far from it in the image that is read.
    pub places: Places,
}

impl Axis {
    /// Rows and columns of a sweep that writes the output.
    pub fn forward(shape: &ConvShape) -> [Axis; 2] {
        let ConvShape { h_in, w_in, h_out, w_out, kh, kw, stride, dilation, pad_top, pad_left, .. } = *shape;
        let axis = |targets, sources, window, pad| Axis {
            targets,
            sources,
            window,
            stride,
            dilation,
            pad,
            is_backward: false,
        };
        [axis(h_out, h_in, kh, pad_top), axis(w_out, w_in, kw, pad_left)]
    }

    /// Of one that writes the gradient of the input.
    pub fn backward(shape: &ConvShape) -> [Axis; 2] {
        Axis::forward(shape).map(|axis| Axis {
            targets: axis.sources,
            sources: axis.targets,
            is_backward: true,
            ..axis
        })
    }

    /// Pixels that are written.
    pub fn targets(&self) -> usize {
        self.targets
    }

    /// Pixels that are read.
    pub fn sources(&self) -> usize {
        self.sources
    }

    /// From a pixel that is written to the next one whose places are the same.
    pub fn target_step(&self) -> usize {
        if self.is_backward { self.stride } else { 1 }
    }

    /// How far their pixels are from one another.
    pub fn source_step(&self) -> usize {
        if self.is_backward { 1 } else { self.stride }
    }

    /// The places of a pixel that is written.
    pub fn places(&self, target: usize) -> Places {
        if self.is_backward { self.places_backward(target) } else { self.places_forward(target) }
    }

    fn places_forward(&self, target: usize) -> Places {
        let &Axis { sources, window, dilation, pad, .. } = self;
        let start = target * self.stride;
        let first = pad.saturating_sub(start).div_ceil(dilation);
        let end = window.min((sources + pad).saturating_sub(start).div_ceil(dilation));
        if first >= end {
            return Places::default();
        }
        let pixel = start + first * dilation - pad;
        Places { count: end - first, pixel, pixel_step: dilation, place: first, place_step: 1 }
    }

    /// A pixel is read through place `k` by the output `(pixel + pad − k · dilation) / stride`, where that is whole.
    fn places_backward(&self, target: usize) -> Places {
        let &Axis { sources, window, stride, dilation, pad, .. } = self;
        let at = target + pad;
        let whole = |place: usize| (at + place * (stride - dilation % stride)).is_multiple_of(stride);
        let divisor = greatest_divisor(stride, dilation);
        let (place_step, pixel_step) = (stride / divisor, dilation / divisor);
        let Some(nearest) = (0..window.min(place_step)).find(|&place| whole(place)) else { return Places::default() };
        // Places from there on, the pixels downwards.
        let Some(highest) = at.checked_sub(nearest * dilation).map(|at| at / stride) else { return Places::default() };
        let first = (highest + 1).saturating_sub(sources).div_ceil(pixel_step);
        let end = (window - nearest).div_ceil(place_step).min(highest / pixel_step + 1);
        if first >= end {
            return Places::default();
        }
        let last = end - 1;
        Places {
            count: end - first,
            pixel: highest - last * pixel_step,
            pixel_step,
            place: nearest + last * place_step,
            place_step: -(place_step as isize),
        }
    }

    /// All pixels that are written, in runs.
    pub fn runs(&self) -> impl Iterator<Item = Run> {
        let axis = *self;
        let step = axis.target_step();
        (0..step.min(axis.targets)).flat_map(move |phase| {
            let mut next = phase;
            std::iter::from_fn(move || {
                let first = next;
                let places = (first < axis.targets).then(|| axis.places(first))?;
                let is_same = |other: Places| (other.count, other.place) == (places.count, places.place);
                while next < axis.targets && is_same(axis.places(next)) {
                    next += step;
                }
                Some(Run { first, count: (next - first) / step, places })
            })
        })
    }
}

fn greatest_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_those_that_a_search_finds() {
        let mut cases = 0;
        for (inputs, outputs, window) in [(1, 1, 3), (7, 7, 3), (9, 4, 5), (12, 5, 2), (6, 6, 7), (5, 9, 1)] {
            for (stride, dilation, pad) in
                [(1, 1, 1), (1, 1, 0), (2, 1, 1), (2, 2, 3), (3, 2, 2), (1, 3, 4), (2, 3, 0), (6, 4, 5), (9, 1, 2)]
            {
                let axis =
                    Axis { targets: outputs, sources: inputs, window, stride, dilation, pad, is_backward: false };
                let back = Axis { targets: inputs, sources: outputs, is_backward: true, ..axis };
                let reads =
                    |output: usize, input: usize, place: usize| output * stride + place * dilation == input + pad;
                for output in 0..outputs {
                    let pairs = (0..inputs).flat_map(|input| (0..window).map(move |place| (input, place)));
                    let want: Vec<_> = pairs.filter(|&(input, place)| reads(output, input, place)).collect();
                    assert_eq!(list(axis.places(output)), want, "{axis:?} {output}");
                }
                for input in 0..inputs {
                    let pairs = (0..outputs).flat_map(|output| (0..window).map(move |place| (output, place)));
                    let want: Vec<_> = pairs.filter(|&(output, place)| reads(output, input, place)).collect();
                    assert_eq!(list(back.places(input)), want, "{back:?} {input}");
                }
                for axis in [axis, back] {
                    let mut seen = vec![0; axis.targets()];
                    for run in axis.runs() {
                        for index in 0..run.count {
                            let target = run.first + index * axis.target_step();
                            seen[target] += 1;
                            let moved = Places { pixel: run.places.pixel + index * axis.source_step(), ..run.places };
                            assert_eq!(list(axis.places(target)), list(moved), "{axis:?} {run:?}");
                        }
                    }
                    assert!(seen.iter().all(|&times| times == 1), "{axis:?}");
                }
                cases += 1;
            }
        }
        assert!(cases > 50);
    }

    /// (pixel, place) of each.
    fn list(places: Places) -> Vec<(usize, usize)> {
        let place = |index: usize| places.place.wrapping_add_signed(index as isize * places.place_step);
        (0..places.count).map(|index| (places.pixel + index * places.pixel_step, place(index))).collect()
    }
}
