//! Segments: runs of steps that follow one another, and how the rows of a micro-batch go through each.

use std::ops::Range;

use super::graph::Graph;

/// How the rows of a micro-batch go through the steps of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traversal {
    /// So many images at a time go through all steps, so that they stay in the cache from one step to the next.
    Images(usize),
    /// All rows at once: a step begins when the one before has done all of them.
    Rows,
}

/// Steps that follow one another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The steps.
    pub steps: Range<usize>,
    /// How rows go through them.
    pub traversal: Traversal,
    /// The floats of their parameters, which follow one another.
    pub params: Range<usize>,
}

/// The segments of a program: all of its steps, in order.
#[derive(Clone, Debug, Default)]
pub struct Segments(Vec<Segment>);

impl Segments {
    /// Of `graph`: image by image until a dense layer wants all rows.
    pub fn new(graph: &Graph) -> Segments {
        let mut segments: Vec<Segment> = Vec::new();
        for (step, node) in graph.nodes.iter().enumerate() {
            let traversal = if node.by_rows { Traversal::Rows } else { Traversal::Images(1) };
            let params = &graph.table[node.params.clone()];
            let (from, end) =
                (params.first().map(|param| param.range.start), params.last().map(|param| param.range.end));
            match segments.last_mut().filter(|last| last.traversal == traversal) {
                Some(last) => {
                    last.steps.end = step + 1;
                    last.params.end = end.unwrap_or(last.params.end);
                }
                None => {
                    let before = segments.last().map_or(0, |last| last.params.end);
                    let from = from.unwrap_or(before);
                    segments.push(Segment { steps: step..step + 1, traversal, params: from..end.unwrap_or(from) });
                }
            }
        }
        Segments(segments)
    }

    /// The segments that have some of `steps`, and these.
    pub fn within(&self, steps: Range<usize>) -> impl DoubleEndedIterator<Item = (&Segment, Range<usize>)> {
        let of = move |segment: &Segment| segment.steps.start.max(steps.start)..segment.steps.end.min(steps.end);
        self.0.iter().map(move |segment| (segment, of(segment))).filter(|(_, steps)| !steps.is_empty())
    }

    /// The segment of a step.
    pub fn of(&self, step: usize) -> &Segment {
        &self.0[self.0.partition_point(|segment| segment.steps.end <= step)]
    }

    /// The steps that a row's visit to a step lies among: all of the segment where rows go through it in turn, else the step.
    pub fn span(&self, step: usize) -> Range<usize> {
        let segment = self.of(step);
        if segment.traversal == Traversal::Rows { step..step + 1 } else { segment.steps.clone() }
    }

    /// How many images at a time are in what step `writer` makes for step `reader`; nothing where all rows are.
    pub fn turns(&self, writer: usize, reader: usize) -> Option<usize> {
        let segment = self.of(writer);
        match segment.traversal {
            Traversal::Images(images) if segment.steps.contains(&reader) => Some(images),
            _ => None,
        }
    }

    /// The first step behind all segments of images.
    pub fn image_steps(&self) -> usize {
        let images = self.0.iter().filter(|segment| segment.traversal != Traversal::Rows);
        images.map(|segment| segment.steps.end).max().unwrap_or(0)
    }

    /// The floats of the parameters that the segments of images have: the first ones of all.
    pub fn image_params(&self) -> Range<usize> {
        let images = self.0.iter().filter(|segment| segment.traversal != Traversal::Rows);
        0..images.map(|segment| segment.params.end).max().unwrap_or(0)
    }
}
