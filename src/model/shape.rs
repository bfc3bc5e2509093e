//! The shape of one row of a tensor.

use std::fmt;

/// The most weights of a network, and values of a row: 32 GiB of them.
pub(super) const MOST_VALUES: usize = 1 << 33;

/// The sizes of one row: `[h, w, c]` of an image with its channels last, `[d]` of a vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape(Vec<usize>);

impl Shape {
    /// An image.
    pub fn image(sizes: [usize; 3]) -> Shape {
        Shape(sizes.to_vec())
    }

    /// A vector.
    pub fn vector(size: usize) -> Shape {
        Shape(vec![size])
    }

    /// The sizes.
    pub fn sizes(&self) -> &[usize] {
        &self.0
    }

    /// Values in a row.
    ///
    /// # Panics
    /// When it was never checked by [`Shape::checked`] and is too large.
    pub fn len(&self) -> usize {
        self.0.iter().product()
    }

    /// The last size: the channels of an image, the values of a vector.
    pub fn channels(&self) -> usize {
        self.0.last().copied().unwrap_or(0)
    }

    /// Whether a row has no value.
    pub fn is_empty(&self) -> bool {
        self.0.contains(&0)
    }

    /// Itself, if a row of it can be planned for.
    ///
    /// # Errors
    /// When it has more than 2³³ values.
    pub fn checked(self) -> Result<Shape, String> {
        let len = self.0.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
        match len.filter(|&len| len <= MOST_VALUES) {
            Some(_) => Ok(self),
            None => Err("the output would be more than 2^33 values".to_owned()),
        }
    }

    /// `[h, w, c]`.
    ///
    /// # Errors
    /// When it is a vector.
    pub fn as_image(&self) -> Result<[usize; 3], String> {
        self.0[..].try_into().map_err(|_| "this layer takes an image, not a vector".to_owned())
    }

    /// The size of a vector.
    ///
    /// # Errors
    /// When it is an image.
    pub fn as_vector(&self) -> Result<usize, String> {
        match self.0[..] {
            [size] => Ok(size),
            _ => Err("a dense layer takes a vector; put \"flatten\" before it".to_owned()),
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&sizes.join("x"))
    }
}
