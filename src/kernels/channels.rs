//! The channels of several images side by side in one, and back.

/// Channels of a wider image: `first .. first + count` of `whole` a pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channels {
    /// The first one.
    pub first: usize,
    /// How many.
    pub count: usize,
    /// All channels of the wider image.
    pub whole: usize,
}

/// Writes `part [pixels, count]` to its channels of `wide [pixels, whole]`.
pub fn put_channels(channels: Channels, part: &[f32], wide: &mut [f32]) {
    let Channels { first, count, whole } = channels;
    assert_eq!(part.len() / count, wide.len() / whole);
    for (pixel, part) in wide.chunks_exact_mut(whole).zip(part.chunks_exact(count)) {
        pixel[first..first + count].copy_from_slice(part);
    }
}

/// Reads them from `wide [pixels, whole]`: `part [pixels, count]` is overwritten.
pub fn take_channels(channels: Channels, wide: &[f32], part: &mut [f32]) {
    let Channels { first, count, whole } = channels;
    assert_eq!(part.len() / count, wide.len() / whole);
    for (pixel, part) in wide.chunks_exact(whole).zip(part.chunks_exact_mut(count)) {
        part.copy_from_slice(&pixel[first..first + count]);
    }
}

/// As [`take_channels`], added to what `part` holds.
pub fn add_channels(channels: Channels, wide: &[f32], part: &mut [f32]) {
    let Channels { first, count, whole } = channels;
    assert_eq!(part.len() / count, wide.len() / whole);
    for (pixel, part) in wide.chunks_exact(whole).zip(part.chunks_exact_mut(count)) {
        part.iter_mut().zip(&pixel[first..first + count]).for_each(|(part, value)| *part += value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_side_by_side_is_taken_back() {
        let [a, b] = [Channels { first: 0, count: 1, whole: 3 }, Channels { first: 1, count: 2, whole: 3 }];
        let mut wide = [f32::NAN; 6];
        put_channels(a, &[1.0, 2.0], &mut wide);
        put_channels(b, &[3.0, 4.0, 5.0, 6.0], &mut wide);
        assert_eq!(wide, [1.0, 3.0, 4.0, 2.0, 5.0, 6.0]);
        let mut part = [f32::NAN; 4];
        take_channels(b, &wide, &mut part);
        assert_eq!(part, [3.0, 4.0, 5.0, 6.0]);
        add_channels(b, &wide, &mut part);
        assert_eq!(part, [6.0, 8.0, 10.0, 12.0]);
    }
}
