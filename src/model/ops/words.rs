//! The words of a layer as it is written.

use std::ops::RangeInclusive;

use crate::kernels::{Padding, Window};

/// The largest number in a layer.
pub const MOST: usize = u16::MAX as usize;

/// A layer's text, cut at its spaces.
pub struct Words<'a> {
    /// All of it.
    pub text: &'a str,
    /// The first word.
    pub name: &'a str,
    /// What follows it.
    pub rest: Vec<&'a str>,
}

impl<'a> Words<'a> {
    /// Cuts `text`.
    pub fn new(text: &'a str) -> Words<'a> {
        let mut words = text.split_whitespace();
        let name = words.next().unwrap_or_default();
        Words { text, name, rest: words.collect() }
    }

    /// Of a layer that has no options.
    ///
    /// # Errors
    /// When there are some.
    pub fn alone(&self) -> Result<(), String> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.refuse(&format!("nothing after '{}'", self.name))) }
    }

    /// The only option, a number.
    ///
    /// # Errors
    /// When it is none in `range`, which is `what` in words.
    pub fn number(&self, range: RangeInclusive<f32>, what: &str) -> Result<f32, String> {
        let value = self.rest.first().and_then(|word| word.parse().ok());
        value.filter(|value| range.contains(value) && self.rest.len() == 1).ok_or_else(|| self.refuse(what))
    }

    /// What was expected instead.
    pub fn refuse(&self, expected: &str) -> String {
        format!("layer '{}': expected {expected}", self.text)
    }

    /// The first option and those behind it.
    ///
    /// # Errors
    /// When there is none.
    pub fn sizes_and_options(&self, example: &str) -> Result<(&'a str, &[&'a str]), String> {
        self.rest.split_first().map(|(sizes, options)| (*sizes, options)).ok_or_else(|| self.refuse(example))
    }

    /// What is said of `sizes` that are none: of one beyond the limit, that; else what was expected.
    pub fn no_size(&self, sizes: &str, expected: &str) -> String {
        let too_large = |size: &&str| {
            size.bytes().all(|byte| byte.is_ascii_digit())
                && size.trim_start_matches('0').len() >= 5
                && size.parse().is_ok_and(|size: u128| size > MOST as u128)
        };
        match sizes.split(['x', '×']).find(too_large) {
            Some(size) => {
                format!("layer '{}': {size} is too large: at most {MOST} fits, write a smaller number", self.text)
            }
            None => self.refuse(expected),
        }
    }

    /// The window of `kh` x `kw` with these options.
    ///
    /// # Errors
    /// When one is unknown or holds no number.
    pub fn window(
        &self,
        [kh, kw]: [usize; 2],
        options: &[&str],
        stride: usize,
        padding: Padding,
    ) -> Result<Window, String> {
        let mut window = Window { kh, kw, stride, dilation: 1, padding };
        for option in options.chunks(2) {
            if !self.window_option(&mut window, option)? {
                return Err(self.no_option(option, "'stride N', 'pad N' or 'pad same'"));
            }
        }
        Ok(window)
    }

    /// Takes an option of every window; whether it is one.
    ///
    /// # Errors
    /// When it holds no number.
    pub fn window_option(&self, window: &mut Window, option: &[&str]) -> Result<bool, String> {
        match option {
            ["stride", n] => window.stride = self.size(n, "'stride 2', a whole number")?,
            ["pad", "same"] => window.padding = Padding::Same,
            ["pad", n] => {
                let pad = n.parse().ok().filter(|&pad: &usize| pad <= MOST);
                let pad = pad.ok_or_else(|| self.no_size(n, "'pad same' or 'pad 1', a number of pixels"))?;
                window.padding = Padding::Pixels(pad);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// One size, which is `expected` in words.
    ///
    /// # Errors
    /// When it is none.
    pub fn size(&self, text: &str, expected: &str) -> Result<usize, String> {
        sizes_of::<1>(text).map(|[size]| size).ok_or_else(|| self.no_size(text, expected))
    }

    /// What is said of an option that is none of those `expected`.
    pub fn no_option(&self, option: &[&str], expected: &str) -> String {
        self.refuse(&format!("{expected}, found '{}'", option.join(" ")))
    }
}

/// `3x3x16` as numbers from 1 to [`MOST`].
pub fn sizes_of<const N: usize>(text: &str) -> Option<[usize; N]> {
    let sizes: Vec<usize> = text.split(['x', '×']).map(|s| s.parse().ok()).collect::<Option<_>>()?;
    let sizes: [usize; N] = sizes.try_into().ok()?;
    sizes.iter().all(|size| (1..=MOST).contains(size)).then_some(sizes)
}
