//! Where the time of a pass goes, layer by layer: added up for `glasses bench`, as a timeline for `--trace`; and that the pass goes
//! on, for the pulse. Where nobody asked, it costs a branch and a store a layer.

use std::cell::Cell;

use super::ops::work::{Backward, Between, Map};
use crate::position;
use crate::stopwatch::Stopwatch;
use crate::trace::{Mark, Trace, What};

/// Seconds, a part of the work.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Times {
    /// The forward pass.
    pub forward: f64,
    /// The gradient of the input; 0 where nothing below wants it.
    pub backward_data: f64,
    /// The gradients of the weights; 0 where there are none.
    pub backward_weights: f64,
}

impl std::ops::Add for Times {
    type Output = Times;
    fn add(self, other: Times) -> Times {
        Times {
            forward: self.forward + other.forward,
            backward_data: self.backward_data + other.backward_data,
            backward_weights: self.backward_weights + other.backward_weights,
        }
    }
}

impl Times {
    /// All parts together.
    pub fn sum(&self) -> f64 {
        self.forward + self.backward_data + self.backward_weights
    }

    fn part(&mut self, what: What) -> &mut f64 {
        match what {
            What::Forward => &mut self.forward,
            What::BackwardWeights => &mut self.backward_weights,
            _ => &mut self.backward_data,
        }
    }
}

/// The times of each step of the program, and a timeline; nothing of it where nobody asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Profile {
    pub(super) times: Vec<Times>,
    trace: Trace,
}

impl Profile {
    /// Does `work`, `what` of step `step`; adds up, or records, what it took.
    #[inline]
    pub fn time(&mut self, step: usize, what: What, work: impl FnOnce()) {
        position::tick();
        if self.times.is_empty() {
            return self.trace.span(what, step, [0; 4], work);
        }
        let mut stopwatch = Stopwatch::start();
        work();
        stopwatch.lap(self.times[step].part(what));
    }

    /// From now on, passes are recorded.
    pub fn record(&mut self, trace: &Trace) {
        self.trace = trace.clone();
    }

    /// Where the times of step `step` are added up, if somebody asked.
    pub fn of_step(&mut self, step: usize) -> Option<&mut Times> {
        self.times.get_mut(step)
    }

    /// An operation's backward pass; where somebody asked for times, its two parts one after the other.
    pub fn backward(&mut self, step: usize, map: &dyn Map, mut pass: Backward<'_>) {
        if self.times.is_empty() {
            position::tick();
            return self.record_backward(step, map, pass);
        }
        if map.has_weights() {
            let d_params = pass.d_params.as_deref_mut();
            let weights = Backward { d_input: None, d_params, scratch: &mut *pass.scratch, ..pass };
            self.time(step, What::BackwardWeights, || map.backward(weights));
        }
        if pass.d_input.is_some() {
            let data = Backward { d_params: None, ..pass };
            self.time(step, What::BackwardData, || map.backward(data));
        }
    }

    /// An operation's backward pass as it is, and, where somebody asked, when it had the gradients of its weights.
    fn record_backward(&self, step: usize, map: &dyn Map, pass: Backward<'_>) {
        let start = self.trace.now();
        if !start.is_on() {
            return map.backward(pass);
        }
        let between = Cell::new(Mark::default());
        let parts = [map.has_weights(), pass.d_input.is_some()];
        map.backward(Backward { between: Between(Some(&between)), ..pass });
        let (between, end) = (between.get(), self.trace.now());
        match parts {
            [true, true] if between.is_on() => {
                self.trace.end_at(start, between, What::BackwardWeights, step, [0; 4]);
                self.trace.end_at(between, end, What::BackwardData, step, [0; 4]);
            }
            [true, true] => self.trace.end_at(start, end, What::Backward, step, [0; 4]),
            [true, false] => self.trace.end_at(start, end, What::BackwardWeights, step, [0; 4]),
            _ => self.trace.end_at(start, end, What::BackwardData, step, [0; 4]),
        }
    }
}
