//! Rows of several owners: a dense layer's work may be shared out by inputs, and the rows then stand where their owners put them.

/// Rows that lie together, or a stretch of each: row `n`'s input `i` is `values[n · stride + i − first]`.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// Row after row.
    pub values: &'a [f32],
    /// From row to row.
    pub stride: usize,
    /// The first input that is there.
    pub first: usize,
    /// How many rows.
    pub count: usize,
}

impl<'a> Rows<'a> {
    /// `count` whole rows of `inputs` each.
    pub fn whole(values: &'a [f32], inputs: usize, count: usize) -> Rows<'a> {
        Rows { values, stride: inputs, first: 0, count }
    }

    /// Whether inputs `.. end` from `start` on are there.
    pub(super) fn check(&self, start: usize, end: usize) {
        check(self.values.len(), [self.stride, self.first, self.count], start, end);
    }
}

/// As [`Rows`], to write.
#[derive(Debug)]
pub struct RowsMut<'a> {
    /// Row after row.
    pub values: &'a mut [f32],
    /// From row to row.
    pub stride: usize,
    /// The first input that is there.
    pub first: usize,
    /// How many rows.
    pub count: usize,
}

impl<'a> RowsMut<'a> {
    /// `count` whole rows of `inputs` each.
    pub fn whole(values: &'a mut [f32], inputs: usize, count: usize) -> RowsMut<'a> {
        RowsMut { values, stride: inputs, first: 0, count }
    }

    pub(super) fn check(&self, start: usize, end: usize) {
        check(self.values.len(), [self.stride, self.first, self.count], start, end);
    }
}

fn check(len: usize, [stride, first, count]: [usize; 3], start: usize, end: usize) {
    let holds = first <= start && end - first <= stride && (count == 0 || (count - 1) * stride + end - first <= len);
    assert!(holds, "inputs {start} .. {end} of {count} rows of {stride} from {first} on in {len} values");
}

/// The rows of a batch, owner by owner.
pub trait Groups {
    /// How many owners.
    fn count(&self) -> usize;
    /// The rows of one of them.
    fn rows(&self, group: usize) -> Rows<'_>;
}

/// As [`Groups`], to write.
pub trait GroupsMut {
    /// How many owners.
    fn count(&self) -> usize;
    /// The rows of one of them.
    fn rows_mut(&mut self, group: usize) -> RowsMut<'_>;
}

impl Groups for Rows<'_> {
    fn count(&self) -> usize {
        1
    }
    fn rows(&self, _group: usize) -> Rows<'_> {
        *self
    }
}

impl GroupsMut for RowsMut<'_> {
    fn count(&self) -> usize {
        1
    }
    fn rows_mut(&mut self, _group: usize) -> RowsMut<'_> {
        RowsMut { values: &mut *self.values, ..*self }
    }
}

/// How many rows there are.
#[inline(always)]
pub(super) fn rows_of(groups: &dyn Groups) -> usize {
    (0..groups.count()).map(|group| groups.rows(group).count).sum()
}
