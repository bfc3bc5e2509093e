//! Changes to training rows that keep their class: an addressed choice for each row in each epoch.

use serde::{Deserialize, Serialize};

use super::RowShape;
use crate::kernels::rng::{Purpose, TrainingPass};

/// What may be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Augment {
    /// Nothing
    None,
    /// Every other picture, at random, is seen in the mirror (left and right exchanged)
    Mirror,
}

impl Augment {
    /// As it is typed and written.
    pub fn name(self) -> &'static str {
        match self {
            Augment::None => "none",
            Augment::Mirror => "mirror",
        }
    }

    /// Where nobody says it: the mirror image of a photograph could be one; that of a digit or of a table's row is something else.
    pub fn of(shape: RowShape) -> Augment {
        if matches!(shape, RowShape::Image { c: 3, .. }) { Augment::Mirror } else { Augment::None }
    }

    /// Changes a prepared row `[h, w, c]` in place as this pass of a run wants it.
    pub fn apply(self, row: u32, training: TrainingPass, [h, w, c]: [usize; 3], values: &mut [f32]) {
        debug_assert_eq!(values.len(), h * w * c);
        let mirror = || training.stream(Purpose::Augment, 0, row as usize).bits(0) >> 31 == 1;
        if self == Augment::Mirror && mirror() {
            values.chunks_exact_mut(w * c).for_each(|line| mirror_line(line, c));
        }
    }
}

fn mirror_line(line: &mut [f32], c: usize) {
    let w = line.len() / c;
    let (left, right) = line.split_at_mut(w / 2 * c);
    for (a, b) in left.chunks_exact_mut(c).zip(right.rchunks_exact_mut(c)) {
        a.swap_with_slice(b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_turns_lines_around_for_half_of_the_rows() {
        let picture: Vec<f32> = (0..30).map(|v| v as f32).collect();
        let mut mirrored = 0;
        for row in 0..1000 {
            let mut values = picture.clone();
            Augment::Mirror.apply(row, TrainingPass { seed: 1, epoch: 0 }, [3, 5, 2], &mut values);
            if values != picture {
                assert_eq!(values[..10], [8.0, 9.0, 6.0, 7.0, 4.0, 5.0, 2.0, 3.0, 0.0, 1.0]);
                assert_eq!(values[20..22], [28.0, 29.0]);
                mirrored += 1;
            }
            let mut same = picture.clone();
            Augment::None.apply(row, TrainingPass { seed: 1, epoch: 0 }, [3, 5, 2], &mut same);
            assert_eq!(same, picture);
        }
        assert!((450..550).contains(&mirrored), "{mirrored}");
    }
}
