//! Batch norm: sums over the rows of a step, group by group, and what is computed by them.
//!
//! A norm is two steps of a training pass: *statistics*, behind the step that writes its input, and *normalize*, in front of the step that
//! reads its output. Between them all rows of its groups have gone through the network up to there. Sums are formed for each leaf of the
//! tree over shards, merged to pieces as far as a rank's leaves go, and by [`Peers::exchange`] to the totals of groups.

use super::ops::Normalize;
use crate::kernels::{self, Leaf};

/// Which rows of a micro-batch are normalised together.
#[derive(Clone, Debug, Default)]
pub struct Grouping {
    /// The leaves of the micro-batch.
    pub leaves: Vec<GroupLeaf>,
    /// The groups: those of the micro-batch, or all of the step, where a group has rows of other ranks.
    pub groups: Vec<Group>,
}

/// A leaf as norms see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupLeaf {
    /// The row behind its last one, and how many earlier leaves of its group it completes a piece with.
    pub leaf: Leaf,
    /// Its group.
    pub group: usize,
    /// Whether it is the first of all leaves of the group, wherever they are: the group's gradients are added to its sum.
    pub is_first: bool,
}

/// A norm group: a node of the tree over shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its rows, those of other ranks too.
    pub rows: usize,
    /// With how many of the groups before it it is merged.
    pub merges: usize,
}

impl Grouping {
    /// All leaves in one group.
    fn one(&mut self, leaves: &[Leaf]) {
        let of_leaf = |(index, leaf): (usize, &Leaf)| GroupLeaf { leaf: *leaf, group: 0, is_first: index == 0 };
        self.leaves.clear();
        self.leaves.extend(leaves.iter().enumerate().map(of_leaf));
        self.groups.clear();
        self.groups.push(Group { rows: leaves.last().map_or(0, |leaf| leaf.end), merges: 0 });
    }

    /// The leaf of a row, and whether the row is its first.
    fn leaf_of(&self, row: usize) -> (usize, bool) {
        let leaf = self.leaves.partition_point(|leaf| leaf.leaf.end <= row);
        (leaf, row == if leaf == 0 { 0 } else { self.leaves[leaf - 1].leaf.end })
    }

    /// Rows of a leaf.
    fn rows_of(&self, leaf: usize) -> usize {
        self.leaves[leaf].leaf.end - if leaf == 0 { 0 } else { self.leaves[leaf - 1].leaf.end }
    }
}

/// What a norm sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormSum {
    /// Of each channel the mean, then the sum of squares around it.
    Moments {
        /// Pixels of a row.
        pixels: usize,
    },
    /// Of each channel the sum of gradients, then that of their products with the distance from the mean.
    Gradients,
}

/// The sums of a norm on their way from pieces to groups.
#[derive(Debug)]
pub struct NormSums<'a> {
    /// The norm's place among those of the network.
    pub norm: usize,
    /// What they are.
    pub kind: NormSum,
    /// Those of this rank's pieces, `[pieces, 2, channels]`.
    pub pieces: &'a [f64],
    /// Those of the groups, `[groups, 2, channels]`: to be written.
    pub totals: &'a mut [f64],
}

/// An image that is through some steps.
#[derive(Clone, Copy, Debug)]
pub struct Through {
    /// Its place in the micro-batch.
    pub row: usize,
    /// It is through all steps before this one.
    pub steps: usize,
}

/// What a pass has to do with other ranks.
pub trait Peers {
    /// An image is through a segment of the forward pass.
    fn image_forward(&mut self, _through: Through) {}

    /// An image is through a segment of the backward pass.
    fn image_backward(&mut self) {}

    /// Pieces become groups. All ranks call it for the same norms in the same order.
    fn exchange(&mut self, sums: NormSums<'_>) {
        // Every group is a piece.
        sums.totals.copy_from_slice(sums.pieces);
    }
}

/// A pass without other ranks.
#[derive(Clone, Copy, Debug)]
pub struct Alone;

impl Peers for Alone {}

/// The most that norms have to have room for.
#[derive(Clone, Copy, Debug, Default)]
pub struct NormRoom {
    /// Leaves of a micro-batch.
    pub leaves: usize,
    /// Groups.
    pub groups: usize,
}

/// The sums of a micro-batch.
#[derive(Debug, Default)]
pub struct Norms {
    /// The groupings: norms may differ in the rows of their groups.
    pub groupings: Vec<Grouping>,
    /// Of each norm, its grouping.
    pub of: Vec<usize>,
    /// The sums of each leaf, each piece and each group, of the norm that is at work.
    leaves: Vec<f64>,
    pieces: Vec<f64>,
    totals: Vec<f64>,
    /// Moments of an image.
    image: Vec<f64>,
    /// Rows of the pieces.
    rows: Vec<usize>,
    /// Of each norm, the moments of each group: for the backward pass and the running statistics.
    moments: Vec<Vec<f64>>,
    /// What the kernels take, for each group.
    coefficients: Vec<f32>,
}

impl Norms {
    /// Room for these norms.
    pub fn new(norms: &[Normalize], room: NormRoom) -> Norms {
        let NormRoom { leaves, groups } = room;
        let width = norms.iter().map(Normalize::width).max().unwrap_or(0);
        let grouping = || Grouping { leaves: Vec::with_capacity(leaves), groups: Vec::with_capacity(groups) };
        // Norms that do not say it have groups of the run's rows.
        let is_first =
            |(index, norm): &(usize, &Normalize)| norms[..*index].iter().all(|other| other.rows != norm.rows);
        let groupings = norms.iter().enumerate().filter(is_first).map(|_| grouping());
        Norms {
            groupings: groupings.collect(),
            of: vec![0; norms.len()],
            leaves: vec![0.0; leaves * width],
            pieces: vec![0.0; leaves * width],
            totals: vec![0.0; groups * width],
            image: vec![0.0; width],
            rows: vec![0; leaves],
            moments: norms.iter().map(|norm| vec![0.0; groups * norm.width()]).collect(),
            coefficients: vec![0.0; 2 * groups * width],
        }
    }

    /// Bytes of that room.
    pub fn bytes(norms: &[Normalize], room: NormRoom) -> usize {
        let NormRoom { leaves, groups } = room;
        let width = norms.iter().map(Normalize::width).max().unwrap_or(0);
        let all: usize = norms.iter().map(Normalize::width).sum();
        8 * (2 * leaves * width + groups * width + width + leaves + groups * all) + 4 * 2 * groups * width
    }

    /// All rows of a micro-batch with these leaves are one group.
    pub fn group_all(&mut self, leaves: &[Leaf]) {
        self.of.fill(0);
        self.groupings.iter_mut().for_each(|grouping| grouping.one(leaves));
    }

    fn grouping(&self, norm: &Normalize) -> &Grouping {
        &self.groupings[self.of[norm.norm]]
    }

    /// Adds the moments of a row of the norm's input to those of its leaf. Rows of a leaf come one after another.
    pub fn add_moments(&mut self, norm: &Normalize, row: usize, input: &[f32]) {
        let (leaf, is_first) = self.grouping(norm).leaf_of(row);
        let before = if leaf == 0 { 0 } else { self.grouping(norm).leaves[leaf - 1].leaf.end };
        let (width, pixels) = (norm.width(), norm.pixels as f64);
        let sums = &mut self.leaves[leaf * width..(leaf + 1) * width];
        if is_first {
            return kernels::channel_moments(input, sums);
        }
        let image = &mut self.image[..width];
        kernels::channel_moments(input, image);
        kernels::merge_moments((row - before) as f64 * pixels, sums, (pixels, image));
    }

    /// All rows have come: the moments of the norm's groups, and what [`Norms::forward`] takes.
    pub fn finish_moments(&mut self, norm: &Normalize, params: &[f32], peers: &mut dyn Peers) {
        let width = norm.width();
        self.exchange(norm, NormSum::Moments { pixels: norm.pixels }, peers);
        let grouping = &self.groupings[self.of[norm.norm]];
        let affine = norm.affine(params);
        for (index, group) in grouping.groups.iter().enumerate() {
            let moments = &mut self.moments[norm.norm][index * width..(index + 1) * width];
            moments.copy_from_slice(&self.totals[index * width..(index + 1) * width]);
            let (mean, squares) = moments.split_at(norm.channels);
            let count = (group.rows * norm.pixels) as f64;
            let both = mean.iter().zip(squares).map(|(mean, squares)| [*mean, squares / count]);
            affine.coefficients(both, &mut self.coefficients[index * width..(index + 1) * width]);
        }
    }

    /// A row of the norm's output from its input.
    pub fn forward(&self, norm: &Normalize, row: usize, input: &[f32], output: &mut [f32]) {
        let grouping = self.grouping(norm);
        let (group, width) = (grouping.leaves[grouping.leaf_of(row).0].group, norm.width());
        let coefficients = &self.coefficients[group * width..(group + 1) * width];
        kernels::norm_forward(coefficients, norm.rectifier, input, output);
    }

    /// Adds what a row brings to the gradient's sums of its leaf.
    pub fn add_gradients(&mut self, norm: &Normalize, row: usize, input: &[f32], gradient: &[f32]) {
        let grouping = &self.groupings[self.of[norm.norm]];
        let (leaf, is_first) = grouping.leaf_of(row);
        let (group, width) = (grouping.leaves[leaf].group, norm.width());
        let moments = &self.moments[norm.norm][group * width..(group + 1) * width];
        let sums = &mut self.leaves[leaf * width..(leaf + 1) * width];
        if is_first {
            sums.fill(0.0);
        }
        kernels::norm_gradient_sums(input, gradient, moments, sums);
    }

    /// All rows have brought theirs: what [`Norms::backward`] takes.
    pub fn finish_gradients(&mut self, norm: &Normalize, params: &[f32], peers: &mut dyn Peers) {
        let width = norm.width();
        self.exchange(norm, NormSum::Gradients, peers);
        let grouping = &self.groupings[self.of[norm.norm]];
        let affine = norm.affine(params);
        for (index, group) in grouping.groups.iter().enumerate() {
            let of = index * width..(index + 1) * width;
            affine.gradient_coefficients(
                (group.rows * norm.pixels) as f64,
                &self.moments[norm.norm][of.clone()],
                &self.totals[of],
                &mut self.coefficients[2 * index * width..2 * (index + 1) * width],
            );
        }
    }

    /// A row of the gradient of the norm's output becomes that of its input.
    pub fn backward(&self, norm: &Normalize, row: usize, input: &[f32], gradient: &mut [f32]) {
        let grouping = self.grouping(norm);
        let (group, width) = (grouping.leaves[grouping.leaf_of(row).0].group, 2 * norm.width());
        kernels::norm_backward(&self.coefficients[group * width..(group + 1) * width], input, gradient);
    }

    /// Adds the gradients of weights and biases to a leaf's sum: those of the group that it is the first leaf of.
    pub fn add_params(&self, norm: &Normalize, leaf: usize, params: &[f32], sum: &mut [f32]) {
        let (grouping, width) = (self.grouping(norm), norm.width());
        let GroupLeaf { group, is_first, .. } = grouping.leaves[leaf];
        if !is_first {
            return;
        }
        let of = group * width..(group + 1) * width;
        let (moments, sums) = (&self.moments[norm.norm][of.clone()], &self.totals[of]);
        let (affine, count) = (norm.affine(params), (grouping.groups[group].rows * norm.pixels) as f64);
        for channel in 0..norm.channels {
            let [bias, weight] = affine.gradients(count, moments, sums, channel);
            sum[norm.bias.start + channel] += bias;
            if let Some(place) = &norm.weight {
                sum[place.start + channel] += weight;
            }
        }
    }

    /// The sums of leaves become those of pieces, and these those of groups.
    fn exchange(&mut self, norm: &Normalize, kind: NormSum, peers: &mut dyn Peers) {
        let width = norm.width();
        let Norms { groupings, of, leaves, pieces, totals, rows, .. } = self;
        let grouping = &groupings[of[norm.norm]];
        let mut depth = 0;
        for (index, GroupLeaf { leaf, .. }) in grouping.leaves.iter().enumerate() {
            pieces[depth * width..(depth + 1) * width].copy_from_slice(&leaves[index * width..(index + 1) * width]);
            rows[depth] = grouping.rows_of(index);
            depth += 1;
            for _ in 0..leaf.merges {
                depth -= 1;
                let (left, right) = pieces.split_at_mut(depth * width);
                kind.merge(rows[depth - 1], &mut left[(depth - 1) * width..], (rows[depth], &right[..width]));
                rows[depth - 1] += rows[depth];
            }
        }
        let totals = &mut totals[..grouping.groups.len() * width];
        peers.exchange(NormSums { norm: norm.norm, kind, pieces: &pieces[..depth * width], totals });
    }

    /// What the groups bring to the running statistics, merged as their subtrees are: rows times means, and rows times variances (where
    /// a group has more than one row). `take` gets each sum, `[2, channels]`, by its place among the subtrees.
    pub fn running(&mut self, norm: &Normalize, mut take: impl FnMut(usize, &[f64])) {
        let width = norm.width();
        let grouping = &self.groupings[self.of[norm.norm]];
        // What is merged waits where totals stood.
        let waiting = &mut self.totals;
        let mut depth = 0;
        for (index, group) in grouping.groups.iter().enumerate() {
            let moments = &self.moments[norm.norm][index * width..(index + 1) * width];
            let (rows, count) = (group.rows as f64, (group.rows * norm.pixels) as f64);
            // Unbiased.
            let variances = if group.rows > 1 { rows / (count - 1.0) } else { 0.0 };
            let factors = [rows, variances];
            let own = &mut waiting[depth * width..(depth + 1) * width];
            for (place, (own, moment)) in own.iter_mut().zip(moments).enumerate() {
                *own = moment * factors[usize::from(place >= norm.channels)];
            }
            depth += 1;
            for _ in 0..group.merges {
                depth -= 1;
                let (left, right) = waiting.split_at_mut(depth * width);
                kernels::merge_sums64(&mut left[(depth - 1) * width..], &right[..width]);
            }
        }
        (0..depth).for_each(|sum| take(sum, &waiting[sum * width..(sum + 1) * width]));
    }
}

impl NormSum {
    /// Merges the sums of `other.0` rows into those of `rows` rows.
    pub fn merge(self, rows: usize, sums: &mut [f64], (other_rows, other): (usize, &[f64])) {
        match self {
            NormSum::Moments { pixels } => {
                let count = |rows: usize| (rows * pixels) as f64;
                kernels::merge_moments(count(rows), sums, (count(other_rows), other));
            }
            NormSum::Gradients => kernels::merge_sums64(sums, other),
        }
    }
}
