//! Segments: runs of steps that follow one another, and how the rows of a micro-batch go through each.

use std::ops::Range;

/// Images that go together through late layers. Their weights come from the last cache, or from memory, once for all of them: a network of
/// twelve convolutions of 256 and 512 channels on 64×64 pixels trains 1.3 times as fast with 8 as with 1, and with 16 not faster.
const LATE_IMAGES: usize = 8;

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

/// What of a step decides the segment that it is in.
#[derive(Clone, Debug)]
pub struct PlannedStep {
    /// Whether it can only begin when all rows have come.
    pub by_rows: bool,
    /// The floats of its weights.
    pub params: Range<usize>,
    /// How many of them have to be read for each image.
    pub weights: usize,
    /// Floats of a row of the tensors that it reads and writes.
    pub maps: usize,
    /// Whether nothing may follow it before all rows are through it.
    pub ends: bool,
}

/// Both, of which one follows the other, or is empty.
fn join(one: Range<usize>, other: Range<usize>) -> Range<usize> {
    match (one.is_empty(), other.is_empty()) {
        (true, _) => other,
        (_, true) => one,
        _ => one.start.min(other.start)..one.end.max(other.end),
    }
}

/// The segments of a program: all of its steps, in order.
#[derive(Clone, Debug, Default)]
pub struct Segments(Vec<Segment>);

impl Segments {
    /// Of these steps: image by image while the maps of a layer are larger than its weights, some images at a time from there on, until a
    /// dense layer wants all rows. The statistics of a norm end a segment.
    pub fn new(planned: impl Iterator<Item = PlannedStep>) -> Segments {
        let mut segments: Vec<Segment> = Vec::new();
        let (mut images, mut is_over) = (1, true);
        for (step, planned) in planned.enumerate() {
            let PlannedStep { by_rows, params, weights, maps, ends } = planned;
            if weights > maps {
                images = LATE_IMAGES;
            }
            let traversal = if by_rows { Traversal::Rows } else { Traversal::Images(images) };
            match segments.last_mut().filter(|last| last.traversal == traversal && !is_over) {
                Some(last) => {
                    last.steps.end = step + 1;
                    last.params = join(last.params.clone(), params);
                }
                None => segments.push(Segment { steps: step..step + 1, traversal, params }),
            }
            is_over = ends;
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Engine, Model, ModelSpec};

    fn segments(layers: &str) -> Vec<(Range<usize>, Traversal)> {
        let spec = ModelSpec::parse(&format!("name = \"m\"\nlayers = [{layers}]"), "m").unwrap();
        let model = Model::new(spec, [16, 16, 3], false, 2, Engine::Gemm).unwrap();
        let steps = model.steps();
        model.program.segments.within(0..steps).map(|(segment, steps)| (steps, segment.traversal)).collect()
    }

    #[test]
    fn late_layers_take_some_images_at_a_time_and_dense_ones_all_rows() {
        let late =
            r#""conv 3x3x8", "relu", "conv 3x3x64 stride 4", "relu", "conv 3x3x64", "global_avgpool", "dense classes""#;
        let found = segments(late);
        assert_eq!(found, [(0..2, Traversal::Images(1)), (2..6, Traversal::Images(8)), (6..7, Traversal::Rows)]);
        // Wide maps: nothing is late.
        let found = segments(r#""conv 3x3x8", "relu", "maxpool 2", "flatten", "dense classes""#);
        assert_eq!(found, [(0..3, Traversal::Images(1)), (3..4, Traversal::Rows)]);
        assert_eq!(segments(r#""flatten", "dense classes""#), [(0..1, Traversal::Rows)]);
        // Dense layers that make factors of an image's channels go as the image does.
        let found = segments(
            r#""conv 3x3x8", { scale = ["global_avgpool", "dense 32", "dense 8"] }, "flatten", "dense classes""#,
        );
        assert_eq!(found, [(0..5, Traversal::Images(1)), (5..6, Traversal::Rows)]);
    }

    #[test]
    fn segments_know_their_steps_and_parameters() {
        let spec = ModelSpec::parse(
            "name = \"m\"\nlayers = [\"conv 1x1x2\", \"relu\", \"conv 3x3x64 stride 8\", \"flatten\", \"dense classes\"]",
            "m",
        );
        let model = Model::new(spec.unwrap(), [16, 16, 1], false, 2, Engine::Gemm).unwrap();
        let segments = &model.program.segments;
        assert_eq!([segments.of(0).params.clone(), segments.of(2).params.clone()], [0..4, 4..1220]);
        assert_eq!((model.summed_params(), segments.image_steps()), (0..1220, 3));
        assert_eq!([segments.span(1), segments.span(3)], [0..2, 3..4]);
        assert_eq!([segments.turns(0, 1), segments.turns(1, 2), segments.turns(2, 2)], [Some(1), None, Some(8)]);
        let parts: Vec<Range<usize>> = segments.within(1..4).map(|(_, steps)| steps).collect();
        assert_eq!(parts, [1..2, 2..3, 3..4]);
    }
}
