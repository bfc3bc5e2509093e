//! Geometry: small `Copy` structs that were checked once, so that kernels need not check again.

/// How the border of an image is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// As much as makes the output `ceil(input / stride)`; the odd pixel goes below and to the right.
    Same,
    /// This many pixels on each side; pixels that are too few for one more window are not seen.
    Pixels(usize),
}

/// The most pixels from the first place of a dilated window to its last one.
const MOST_EXTENT: usize = u16::MAX as usize;

/// A sliding window over an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Height in pixels.
    pub kh: usize,
    /// Width in pixels.
    pub kw: usize,
    /// Step in pixels, both ways.
    pub stride: usize,
    /// Pixels from one place of the window to the next, both ways: 1 where they are neighbours.
    pub dilation: usize,
    /// What lies beyond the border.
    pub padding: Padding,
}

impl Window {
    /// Pixels from the first of `places` places of a window to its last one, both counted.
    fn extent(&self, places: usize) -> usize {
        (places - 1) * self.dilation + 1
    }

    /// Where the window lands on an input `size` pixels long: (output size, padding before the first pixel).
    ///
    /// # Errors
    /// In words, with the formula, when the output is not positive.
    fn along(&self, axis: &str, size: usize, places: usize) -> Result<(usize, usize), String> {
        let (stride, window) = (self.stride, self.extent(places));
        if self.dilation > 1 && window > MOST_EXTENT {
            let dilation = self.dilation;
            return Err(format!(
                "a dilated window of {axis} ({places} - 1)*{dilation} + 1 = {window}, of {MOST_EXTENT} at most"
            ));
        }
        match self.padding {
            Padding::Same => {
                let output = size.div_ceil(stride);
                let total = ((output - 1) * stride + window).saturating_sub(size);
                Ok((output, total / 2))
            }
            Padding::Pixels(pad) => match (size + 2 * pad).checked_sub(window) {
                Some(span) if pad < window => Ok((span / stride + 1, pad)),
                _ => Err(format!(
                    "output {axis} (W - F + 2P)/S + 1 = ({size} - {window} + 2*{pad})/{stride} + 1 = {}{}",
                    if pad >= window {
                        format!("with padding {pad}, not smaller than the window {window}")
                    } else {
                        let output = (size as f64 - window as f64 + 2.0 * pad as f64) / stride as f64 + 1.0;
                        format!("{}", (output * 100.0).round() / 100.0)
                    },
                    match self.dilation {
                        1 => String::new(),
                        dilation => format!(", where F = ({places} - 1)*{dilation} + 1 by the dilation"),
                    }
                )),
            },
        }
    }

    /// Rows and columns at the end of an image `[h, w]` that no window sees, where a number of pixels is its padding.
    pub fn unseen(&self, [h, w]: [usize; 2]) -> [usize; 2] {
        let behind = |axis: &str, size: usize, window: usize| match (self.padding, self.along(axis, size, window)) {
            (Padding::Pixels(pad), Ok((output, _))) => {
                (size + pad).saturating_sub((output - 1) * self.stride + self.extent(window))
            }
            _ => 0,
        };
        [behind("height", h, self.kh), behind("width", w, self.kw)]
    }
}

/// The geometry of a convolution; the batch is given apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvShape {
    /// Input height.
    pub h_in: usize,
    /// Input width.
    pub w_in: usize,
    /// Input channels.
    pub c_in: usize,
    /// Output height.
    pub h_out: usize,
    /// Output width.
    pub w_out: usize,
    /// Output channels.
    pub c_out: usize,
    /// Window height.
    pub kh: usize,
    /// Window width.
    pub kw: usize,
    /// Step in pixels.
    pub stride: usize,
    /// Pixels from one place of the window to the next.
    pub dilation: usize,
    /// Parts that the channels fall into: an output channel reads the input channels of its own one.
    pub groups: usize,
    /// Rows of zeros above the image.
    pub pad_top: usize,
    /// Columns of zeros left of the image.
    pub pad_left: usize,
}

impl ConvShape {
    /// A convolution of `[h, w, c]` images by `window` to `c_out` channels.
    ///
    /// # Errors
    /// In words, with the formula, when the output is not positive.
    pub fn new([h_in, w_in, c_in]: [usize; 3], window: Window, c_out: usize) -> Result<Self, String> {
        let (h_out, pad_top) = window.along("height", h_in, window.kh)?;
        let (w_out, pad_left) = window.along("width", w_in, window.kw)?;
        let Window { kh, kw, stride, dilation, .. } = window;
        Ok(ConvShape { h_in, w_in, c_in, h_out, w_out, c_out, kh, kw, stride, dilation, groups: 1, pad_top, pad_left })
    }

    /// The same with its channels in `groups` parts.
    ///
    /// # Errors
    /// In words, when they cannot be divided so.
    pub fn grouped(self, groups: usize) -> Result<Self, String> {
        for (channels, which) in [(self.c_in, "input"), (self.c_out, "output")] {
            if !channels.is_multiple_of(groups) {
                return Err(format!(
                    "{groups} groups of {channels} {which} channels: {groups} does not divide {channels}"
                ));
            }
        }
        Ok(ConvShape { groups, ..self })
    }

    /// Whether every output reads all channels of neighbouring pixels.
    pub fn is_plain(&self) -> bool {
        self.groups == 1 && self.dilation == 1
    }

    /// Input channels of a group.
    pub fn group_in(&self) -> usize {
        self.c_in / self.groups
    }

    /// Output channels of a group.
    pub fn group_out(&self) -> usize {
        self.c_out / self.groups
    }

    /// Rows and columns from the first place of the window to its last one, both counted.
    pub fn extent(&self) -> [usize; 2] {
        [self.kh, self.kw].map(|places| (places - 1) * self.dilation + 1)
    }

    /// Values in one input image.
    pub fn input_len(&self) -> usize {
        self.h_in * self.w_in * self.c_in
    }

    /// Values in one output image.
    pub fn output_len(&self) -> usize {
        self.h_out * self.w_out * self.c_out
    }

    /// Values under one window: the length of the sum behind one output.
    pub fn patch_len(&self) -> usize {
        self.kh * self.kw * self.group_in()
    }

    /// Weights.
    pub fn weight_len(&self) -> usize {
        self.patch_len() * self.c_out
    }
}

/// The geometry of a pooling layer; the batch is given apart. Windows are clipped to the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolShape {
    /// Input height.
    pub h_in: usize,
    /// Input width.
    pub w_in: usize,
    /// Channels.
    pub channels: usize,
    /// Output height.
    pub h_out: usize,
    /// Output width.
    pub w_out: usize,
    /// Window height.
    pub kh: usize,
    /// Window width.
    pub kw: usize,
    /// Step in pixels.
    pub stride: usize,
    /// Rows above the image that the first window covers.
    pub pad_top: usize,
    /// Columns left of the image that the first window covers.
    pub pad_left: usize,
}

impl PoolShape {
    /// Pooling of `[h, w, c]` images by `window`.
    ///
    /// # Errors
    /// In words, with the formula, when the output is not positive.
    pub fn new([h_in, w_in, channels]: [usize; 3], window: Window) -> Result<Self, String> {
        let (h_out, pad_top) = window.along("height", h_in, window.kh)?;
        let (w_out, pad_left) = window.along("width", w_in, window.kw)?;
        let Window { kh, kw, stride, .. } = window;
        Ok(PoolShape { h_in, w_in, channels, h_out, w_out, kh, kw, stride, pad_top, pad_left })
    }

    /// Values in one input image.
    pub fn input_len(&self) -> usize {
        self.h_in * self.w_in * self.channels
    }

    /// Values in one output image.
    pub fn output_len(&self) -> usize {
        self.h_out * self.w_out * self.channels
    }

    /// The part of the image under the window of output pixel (`y`, `x`): rows, then columns.
    pub fn clipped(&self, y: usize, x: usize) -> (std::ops::Range<usize>, std::ops::Range<usize>) {
        let (top, left) = (y * self.stride, x * self.stride);
        let rows = top.saturating_sub(self.pad_top)..(top + self.kh).saturating_sub(self.pad_top).min(self.h_in);
        let columns = left.saturating_sub(self.pad_left)..(left + self.kw).saturating_sub(self.pad_left).min(self.w_in);
        (rows, columns)
    }
}

/// The geometry of an adaptive pooling layer, whose windows share out the image; the batch is given apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdaptiveShape {
    /// Input height.
    pub h_in: usize,
    /// Input width.
    pub w_in: usize,
    /// Channels.
    pub channels: usize,
    /// Output height; it may be more than the input's.
    pub h_out: usize,
    /// Output width.
    pub w_out: usize,
}

impl AdaptiveShape {
    /// Values in one input image.
    pub fn input_len(&self) -> usize {
        self.h_in * self.w_in * self.channels
    }

    /// Values in one output image.
    pub fn output_len(&self) -> usize {
        self.h_out * self.w_out * self.channels
    }

    /// Window `index` of `outputs` along an axis of `inputs`: from ⌊index · inputs / outputs⌋ to ⌈(index + 1) · inputs / outputs⌉.
    pub fn window(index: usize, inputs: usize, outputs: usize) -> std::ops::Range<usize> {
        index * inputs / outputs..((index + 1) * inputs).div_ceil(outputs)
    }
}

/// The geometry of a dense layer; the batch is given apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DenseShape {
    /// Values in a row of the input.
    pub inputs: usize,
    /// Values in a row of the output.
    pub outputs: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_window_sees_is_counted() {
        let window = |k: usize, stride: usize, padding: Padding| Window { kh: k, kw: k, stride, dilation: 1, padding };
        assert_eq!(window(3, 2, Padding::Pixels(0)).unseen([8, 9]), [1, 0]);
        assert_eq!(window(3, 2, Padding::Pixels(1)).unseen([8, 9]), [0, 0]);
        assert_eq!(window(1, 4, Padding::Pixels(0)).unseen([8, 9]), [3, 0]);
        assert_eq!(window(2, 2, Padding::Same).unseen([9, 9]), [0, 0]);
    }

    fn output(size: usize, window: usize, stride: usize, padding: Padding) -> Result<usize, String> {
        let window = Window { kh: window, kw: window, stride, dilation: 1, padding };
        ConvShape::new([size, size, 1], window, 1).map(|shape| shape.h_out)
    }

    #[test]
    fn output_sizes_follow_the_formula_and_are_rounded_down() {
        assert_eq!(output(80, 5, 1, Padding::Same), Ok(80));
        assert_eq!(output(81, 3, 2, Padding::Same), Ok(41));
        assert_eq!(output(80, 3, 2, Padding::Same), Ok(40));
        assert_eq!(output(7, 3, 2, Padding::Pixels(0)), Ok(3));
        assert_eq!(output(3, 3, 1, Padding::Pixels(0)), Ok(1));
        // As PyTorch: the pixels left over are too few for another window.
        assert_eq!(output(80, 3, 2, Padding::Pixels(1)), Ok(40));
        assert_eq!(output(8, 3, 2, Padding::Pixels(0)), Ok(3));
        let refused = output(2, 5, 2, Padding::Pixels(1)).unwrap_err();
        assert!(refused.ends_with("(2 - 5 + 2*1)/2 + 1 = 0.5"), "{refused}");
        assert!(output(2, 3, 1, Padding::Pixels(0)).unwrap_err().ends_with("= 0"));
        assert!(output(9, 3, 1, Padding::Pixels(3)).is_err(), "a window that sees only padding");
    }

    #[test]
    fn dilated_windows_are_as_large_as_their_places_are_apart() {
        let output = |size: usize, stride: usize, dilation: usize, padding: Padding| {
            let window = Window { kh: 3, kw: 3, stride, dilation, padding };
            ConvShape::new([size, size, 1], window, 1).map(|shape| (shape.h_out, shape.pad_top, shape.extent()))
        };
        assert_eq!(output(9, 1, 2, Padding::Same), Ok((9, 2, [5, 5])));
        assert_eq!(output(9, 2, 3, Padding::Same), Ok((5, 3, [7, 7])));
        assert_eq!(output(9, 2, 3, Padding::Pixels(1)), Ok((3, 1, [7, 7])));
        assert_eq!(output(9, 1, 2, Padding::Pixels(4)), Ok((13, 4, [5, 5])));
        let refused = output(6, 1, 4, Padding::Pixels(1)).unwrap_err();
        assert!(refused.ends_with("(6 - 9 + 2*1)/1 + 1 = 0, where F = (3 - 1)*4 + 1 by the dilation"), "{refused}");
        let refused = output(9, 1, 40000, Padding::Same).unwrap_err();
        assert!(refused.ends_with("(3 - 1)*40000 + 1 = 80001, of 65535 at most"), "{refused}");
        let window = Window { kh: 3, kw: 3, stride: 1, dilation: 2, padding: Padding::Pixels(0) };
        assert_eq!((window.unseen([8, 9]), Window { stride: 3, ..window }.unseen([9, 10])), ([0, 0], [1, 2]));
    }

    #[test]
    fn groups_divide_the_channels() {
        let window = Window { kh: 3, kw: 2, stride: 1, dilation: 1, padding: Padding::Same };
        let shape = ConvShape::new([5, 5, 12], window, 18).unwrap();
        let grouped = shape.grouped(6).unwrap();
        assert_eq!((grouped.group_in(), grouped.group_out(), grouped.weight_len()), (2, 3, 3 * 2 * 2 * 18));
        assert_eq!(shape.grouped(4).unwrap_err(), "4 groups of 18 output channels: 4 does not divide 18");
        assert_eq!(shape.grouped(9).unwrap_err(), "9 groups of 12 input channels: 9 does not divide 12");
    }
}
