//! Parts of the fixed tree over shards: the groups whose rows batch norms normalise together.

use std::ops::Range;

/// Parts a tree over shards with `rows[s]` rows each, from its root on: a node parts in two where both halves that have rows have `least` of
/// them. The parts, by their leaves, are put into `parts`; without `least`, all leaves are one.
pub fn part_tree(rows: &[usize], least: Option<usize>, parts: &mut Vec<Range<usize>>) {
    parts.clear();
    part_node(rows, least, 0, parts);
}

/// The same below a node whose first leaf is `first`. Returns how many leaves it has.
fn part_node(rows: &[usize], least: Option<usize>, first: usize, parts: &mut Vec<Range<usize>>) -> usize {
    let leaves = rows.iter().filter(|&&rows| rows > 0).count();
    if rows.len() > 1 && leaves > 1 && least.is_some() {
        let (left, right) = rows.split_at(rows.len().next_power_of_two() / 2);
        let [one, other] = [left, right].map(|half| half.iter().sum::<usize>());
        if one == 0 || other == 0 {
            return part_node(if one == 0 { right } else { left }, least, first, parts);
        }
        if least.is_some_and(|least| one.min(other) >= least) {
            let before = part_node(left, least, first, parts);
            return before + part_node(right, least, first + before, parts);
        }
    }
    if leaves > 0 {
        parts.push(first..first + leaves);
    }
    leaves
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_parts_where_both_halves_have_rows_enough() {
        let parts = |rows: &[usize], least| {
            let mut parts = Vec::new();
            part_tree(rows, least, &mut parts);
            parts.iter().map(|part| (part.start, part.end)).collect::<Vec<_>>()
        };
        assert_eq!(parts(&[8; 8], None), [(0, 8)]);
        assert_eq!(parts(&[8; 8], Some(16)), [(0, 2), (2, 4), (4, 6), (6, 8)]);
        assert_eq!(parts(&[8; 8], Some(17)), [(0, 4), (4, 8)]);
        assert_eq!(parts(&[8; 8], Some(1)).len(), 8);
        // The root does not part, whatever is below; a half without rows is none.
        assert_eq!(parts(&[1, 0, 9, 9], Some(2)), [(0, 3)]);
        assert_eq!(parts(&[0, 0, 9, 9], Some(2)), [(0, 1), (1, 2)]);
        assert_eq!(parts(&[0; 4], Some(2)), []);
        assert_eq!(parts(&[5, 5, 5], Some(5)), [(0, 1), (1, 2), (2, 3)]);
    }
}
