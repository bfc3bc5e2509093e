//! Which ranks share a machine's memory, and what follows from that alone: who exchanges what with whom.

use std::ops::Range;

/// The ranks in groups: the ranks of a group are neighbours, and so are the groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nodes {
    ranks: Vec<Range<usize>>,
    rank: usize,
    mine: usize,
    /// For each rank: where its rows are in this group's memory, if it is of another one.
    remote_slots: Vec<RemoteSlot>,
}

/// A place for the rows of a rank of another group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemoteSlot {
    /// The place in this group of the rank that receives the rows.
    pub place: usize,
    /// Its slot for them.
    pub slot: usize,
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
        let members = ranks[mine].len();
        let mut remote_slots = vec![RemoteSlot::default(); end];
        let mut taken = vec![0; members];
        for (_, group) in ranks.iter().enumerate().filter(|(group, _)| *group != mine) {
            for (index, rank) in group.clone().enumerate() {
                let place = index % members;
                remote_slots[rank] = RemoteSlot { place, slot: taken[place] };
                taken[place] += 1;
            }
        }
        Nodes { ranks, rank, mine, remote_slots }
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

    /// This rank.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Ranks of this rank's group.
    pub fn members(&self) -> usize {
        self.neighbours().len()
    }

    /// Whether there are other groups.
    pub fn is_multi_node(&self) -> bool {
        self.count() > 1
    }

    /// The other groups.
    pub fn other_groups(&self) -> impl Iterator<Item = usize> + use<> {
        let mine = self.mine;
        (0..self.count()).filter(move |&group| group != mine)
    }

    /// The ranks of other groups.
    pub fn inter_node_ranks(&self) -> impl Iterator<Item = usize> + use<> {
        let node = self.neighbours();
        (0..self.size()).filter(move |rank| !node.contains(rank))
    }

    /// Where the rows of a rank of another group are in this group's memory.
    pub fn remote_slot(&self, rank: usize) -> RemoteSlot {
        self.remote_slots[rank]
    }

    /// The ranks of other groups whose rows this rank receives for its group, and the remote slot of each.
    pub fn received_for_node(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let place = self.place();
        let slots = self.inter_node_ranks().map(|rank| (rank, self.remote_slots[rank]));
        slots.filter(move |(_, at)| at.place == place).map(|(rank, at)| (rank, at.slot))
    }

    /// The most remote slots that a rank of this group needs.
    pub fn most_remote_slots(&self) -> usize {
        self.inter_node_ranks().map(|rank| self.remote_slots[rank].slot + 1).max().unwrap_or(0)
    }

    /// The rank of another group that receives this rank's rows for it.
    pub fn receiver(&self, group: usize) -> usize {
        let ranks = &self.ranks[group];
        ranks.start + self.place() % ranks.len()
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
        assert_eq!((nodes.rank(), nodes.members(), nodes.is_multi_node(), nodes.receiver(2)), (5, 3, true, 8));
        assert_eq!(nodes.other_groups().collect::<Vec<_>>(), [0, 2]);
        assert_eq!(nodes.inter_node_ranks().collect::<Vec<_>>(), [0, 1, 2, 3, 7, 8, 9, 10]);
        // Of two groups of four, the second and the fourth ranks: the fourth goes to the first place again.
        assert_eq!(nodes.received_for_node().collect::<Vec<_>>(), [(1, 0), (8, 1)]);
        assert_eq!((nodes.remote_slot(10), nodes.most_remote_slots()), (RemoteSlot { place: 0, slot: 3 }, 4));
        let apart = Nodes::apart(3, 2);
        assert!(!Nodes::new([3], 1).is_multi_node() && Nodes::new([3], 1).most_remote_slots() == 0);
        assert_eq!((apart.count(), apart.place(), apart.neighbours()), (3, 0, 2..3));
    }
}
