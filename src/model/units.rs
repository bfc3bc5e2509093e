//! Units: the parts of the parameters that are never divided among ranks.

use std::ops::Range;

use super::params::Param;

/// Inputs of a dense layer whose weights are a unit.
pub const UNIT_INPUTS: usize = 64;

/// Values of a unit of any other tensor.
const UNIT_VALUES: usize = 8192;

/// Units that follow one another: 64 inputs of a dense layer's weight, 8192 values of any other tensor; the last of a tensor may be
/// shorter. Norms are summed over each of them, then over all of them in the fixed tree; digests are taken of each of them.
#[derive(Clone, Debug, Default)]
pub struct Units {
    stretches: Vec<Stretch>,
    /// Units in front of the first, and how many there are.
    first: usize,
    len: usize,
}

/// Units of one size.
#[derive(Clone, Debug)]
struct Stretch {
    /// Units in front of it.
    before: usize,
    /// Their values.
    values: Range<usize>,
    /// Values of each but the last.
    unit: usize,
}

impl Units {
    /// Of the weights of a table.
    pub fn of_params(table: &[Param]) -> Units {
        Units::of_tensors(Param::weights(table))
    }

    /// Of all tensors of a table, running statistics too.
    pub fn of_tensors(table: &[Param]) -> Units {
        let unit = |param: &Param| if param.shape.len() == 2 { UNIT_INPUTS * param.shape[1] } else { UNIT_VALUES };
        Units::of_stretches(table.iter().map(|param| (param.range.clone(), unit(param))))
    }

    /// Of the inputs of a dense layer, as its weight has them.
    pub fn of_inputs(inputs: usize) -> Units {
        Units::of_stretches(std::iter::once((0..inputs, UNIT_INPUTS)))
    }

    fn of_stretches(stretches: impl Iterator<Item = (Range<usize>, usize)>) -> Units {
        let mut units = Units::default();
        for (values, unit) in stretches.filter(|(values, _)| !values.is_empty()) {
            let before = units.len;
            units.len += values.len().div_ceil(unit);
            units.stretches.push(Stretch { before, values, unit });
        }
        units
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The values of one.
    pub fn get(&self, unit: usize) -> Option<Range<usize>> {
        if unit >= self.len {
            return None;
        }
        let unit = self.first + unit;
        let stretch = &self.stretches[self.stretches.partition_point(|stretch| stretch.before <= unit) - 1];
        let start = stretch.values.start + (unit - stretch.before) * stretch.unit;
        Some(start..stretch.values.end.min(start + stretch.unit))
    }

    /// Their values, one after another.
    pub fn iter(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        (0..self.len).filter_map(|unit| self.get(unit))
    }

    /// How many stand in front of the first that `is_before` does not hold for.
    pub fn partition_point(&self, is_before: impl Fn(Range<usize>) -> bool) -> usize {
        let (mut least, mut most) = (0, self.len);
        while least < most {
            let middle = least + (most - least) / 2;
            if self.get(middle).is_some_and(&is_before) {
                least = middle + 1;
            } else {
                most = middle;
            }
        }
        least
    }

    /// Some of them.
    pub fn part(&self, units: Range<usize>) -> Units {
        let Range { start, end } = units;
        let end = end.min(self.len);
        Units { stretches: self.stretches.clone(), first: self.first + start.min(end), len: end - start.min(end) }
    }

    /// Their values in `parts` of nearly equal size, no unit divided.
    pub fn share_out(&self, parts: usize) -> Vec<Range<usize>> {
        let (Some(first), Some(last)) = (self.get(0), self.get(self.len.saturating_sub(1))) else {
            return vec![0..0; parts];
        };
        let (start, len) = (first.start, last.end - first.start);
        let cut = |part: usize| {
            let wanted = start + (len as u128 * part as u128 / parts as u128) as usize;
            let behind = self.partition_point(|unit| unit.end <= wanted);
            match self.get(behind) {
                Some(unit) if 2 * (wanted - unit.start) > unit.len() => unit.end,
                Some(unit) => unit.start,
                None => last.end,
            }
        };
        (0..parts).map(|part| cut(part)..cut(part + 1)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::params::Initial;

    fn param(shape: &[usize], start: usize) -> Param {
        let range = start..start + shape.iter().product::<usize>();
        Param {
            name: String::new(),
            shape: shape.to_vec(),
            range,
            initial: Initial::Drawn,
            is_statistic: false,
            ends_residual: false,
        }
    }

    #[test]
    fn units_are_shared_out_whole_and_evenly() {
        let units = Units::of_stretches(std::iter::once((7..87, 8)));
        for parts in 1..13 {
            let shares = units.share_out(parts);
            assert_eq!((shares[0].start, shares[parts - 1].end), (7, 87));
            assert!(shares.windows(2).all(|two| two[0].end == two[1].start));
            assert!(
                shares.iter().all(|share| (share.start - 7) % 8 == 0 && share.len() <= 80usize.div_ceil(parts) + 8)
            );
        }
        assert_eq!(Units::default().share_out(2), [0..0, 0..0]);
    }

    #[test]
    fn units_follow_one_another_and_parts_are_some_of_them() {
        let table = [param(&[3, 3, 50, 40], 0), param(&[40], 18000), param(&[130, 5], 18040), param(&[5], 18690)];
        let units = Units::of_params(&table);
        let all: Vec<Range<usize>> = units.iter().collect();
        let want =
            [0..8192, 8192..16384, 16384..18000, 18000..18040, 18040..18360, 18360..18680, 18680..18690, 18690..18695];
        assert_eq!(all, want);
        assert_eq!((units.len(), units.get(8)), (8, None));
        assert_eq!(units.partition_point(|unit| unit.end <= 18040), 4);
        let part = units.part(3..6);
        assert_eq!(part.iter().collect::<Vec<_>>(), want[3..6]);
        assert_eq!(part.part(1..9).iter().collect::<Vec<_>>(), want[4..6]);
        assert!(units.part(5..5).is_empty());
        // As many values as there may be take no memory.
        assert_eq!(Units::of_inputs(1 << 33).len(), 1 << 27);
    }
}
