//! Which ranks share a machine's memory.

use std::ops::Range;

/// The ranks in groups: the ranks of a group are neighbours, and so are the groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nodes {
    ranks: Vec<Range<usize>>,
    rank: usize,
    mine: usize,
}

impl Nodes {
    /// Groups of `sizes` ranks, as rank `rank` sees them.
    ///
    /// # Panics
    /// When there are fewer ranks than that.
    pub fn new(sizes: impl IntoIterator<Item = usize>, rank: usize) -> Nodes {
        let mut end = 0;
        let ranks: Vec<Range<usize>> = sizes
            .into_iter()
            .map(|size| {
                end += size;
                end - size..end
            })
            .collect();
        let mine = ranks.iter().position(|ranks| ranks.contains(&rank)).expect("a rank of one of the groups");
        Nodes { ranks, rank, mine }
    }

    /// Every rank for itself.
    pub fn apart(size: usize, rank: usize) -> Nodes {
        Nodes::new(std::iter::repeat_n(1, size), rank)
    }

    /// How many groups.
    pub fn count(&self) -> usize {
        self.ranks.len()
    }

    /// The group of this rank.
    pub fn mine(&self) -> usize {
        self.mine
    }

    /// The ranks of group `node`.
    pub fn ranks(&self, node: usize) -> Range<usize> {
        self.ranks[node].clone()
    }

    /// The ranks of this rank's group.
    pub fn neighbours(&self) -> Range<usize> {
        self.ranks[self.mine].clone()
    }

    /// This rank's place in its group.
    pub fn place(&self) -> usize {
        self.rank - self.ranks[self.mine].start
    }

    /// All ranks.
    pub fn size(&self) -> usize {
        self.ranks.last().map_or(0, |ranks| ranks.end)
    }

    /// The group of rank `rank`.
    pub fn of(&self, rank: usize) -> usize {
        self.ranks.iter().position(|ranks| ranks.contains(&rank)).unwrap_or(0)
    }

    /// How many ranks of each group take part in what travels between groups: the place in the group says who talks to whom.
    pub fn lanes(&self) -> usize {
        self.ranks.iter().map(Range::len).min().unwrap_or(1)
    }

    /// The rank behind each group's last one.
    pub fn ends(&self) -> impl Iterator<Item = usize> {
        self.ranks.iter().map(|ranks| ranks.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_know_their_group_and_their_place_in_it() {
        let nodes = Nodes::new([4, 3, 4], 5);
        assert_eq!((nodes.count(), nodes.mine(), nodes.place(), nodes.lanes(), nodes.size()), (3, 1, 1, 3, 11));
        assert_eq!((nodes.neighbours(), nodes.of(10), nodes.of(0)), (4..7, 2, 0));
        let apart = Nodes::apart(3, 2);
        assert_eq!((apart.count(), apart.place(), apart.neighbours()), (3, 0, 2..3));
    }
}
