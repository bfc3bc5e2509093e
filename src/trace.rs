//! A timeline of what a rank does, span by span, in memory that was taken before the first of them. Whoever works records
//! here, under a number; what it is called, and where it ends up, `train::timeline` knows. Off, it costs a branch.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// What a span is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum What {
    /// A whole training step; about its number in the run, from 1.
    Step,
    /// The rows of a step are prepared.
    Load,
    /// An evaluation.
    Evaluate,
    /// The weights' digests, and their exchange.
    Digest,
    /// The root copies what a checkpoint holds.
    Checkpoint,
    /// A layer's forward pass; this and the next four are about a step of the plan.
    Forward,
    /// The gradient of a layer's input.
    BackwardData,
    /// The gradients of a layer's weights, and what both parts of the backward pass need first.
    BackwardWeights,
    /// Both, where they cannot be told apart.
    Backward,
    /// A layer that is shared out: gradients of inputs, of weights, and updates, a few inputs at a time. Bytes read from
    /// neighbours, then the nanoseconds of each.
    Shared,
    /// Ranks' sums become one, read from neighbours' memory where there are any, and are used. Bytes read.
    Merge,
    /// Parameters are updated.
    Update,
    /// Pieces of a batch norm's groups become one, read from neighbours' memory and from messages; about a step of
    /// the plan, counted from 1, or 0 for the running statistics of all norms. Bytes read.
    Norm,
    /// A message is started; about a channel. Bytes, receiver.
    Send,
    /// A message is expected; about a channel. Bytes, sender.
    Receive,
    /// From the first message that was started on a channel to the end of [`What::Finish`]. Bytes sent, bytes received,
    /// messages.
    UnderWay,
    /// A collective operation of MPI: exchange and waiting in one. Bytes.
    Collective,
    /// Waits for the ranks of the machine.
    NodeBarrier,
    /// Waits for the messages of a channel; about it.
    Finish,
    /// Waits for all ranks.
    Barrier,
}

impl What {
    /// All of them, in order.
    pub const ALL: [What; 20] = [
        What::Step,
        What::Load,
        What::Evaluate,
        What::Digest,
        What::Checkpoint,
        What::Forward,
        What::BackwardData,
        What::BackwardWeights,
        What::Backward,
        What::Shared,
        What::Merge,
        What::Update,
        What::Norm,
        What::Send,
        What::Receive,
        What::UnderWay,
        What::Collective,
        What::NodeBarrier,
        What::Finish,
        What::Barrier,
    ];
}

/// A span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Nanoseconds since the recorder was made.
    pub start: u64,
    /// Nanoseconds.
    pub took: u64,
    /// What it was.
    pub what: What,
    /// A step, a channel: [`What`] says.
    pub about: u32,
    /// Bytes and the like: [`What`] says.
    pub numbers: [u64; 4],
}

/// When a span began; nothing where nobody records.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mark(Option<Instant>);

impl Mark {
    /// Now, whoever records.
    pub fn set_now() -> Mark {
        Mark(Some(Instant::now()))
    }

    /// Whether somebody records.
    pub fn is_on(self) -> bool {
        self.0.is_some()
    }

    /// Nanoseconds since it began, or 0.
    pub fn elapsed(self) -> u64 {
        self.0.map_or(0, |start| start.elapsed().as_nanos() as u64)
    }
}

/// A handle to a rank's recorder; the default one records nothing.
#[derive(Clone, Debug, Default)]
pub struct Trace(Option<Arc<Recorder>>);

#[derive(Debug)]
struct Recorder {
    zero: Instant,
    on: AtomicBool,
    full: AtomicBool,
    spans: Mutex<Vec<Span>>,
}

impl Trace {
    /// Room for so many spans, taken now; [`Trace::start`] begins.
    pub fn with_room(spans: usize) -> Trace {
        let zero = Instant::now();
        // Written once, so that the system gives the memory now and not in the middle of a step.
        let mut room = vec![Span { start: u64::MAX, took: 1, what: What::Step, about: 1, numbers: [1; 4] }; spans];
        std::hint::black_box(&mut room[..]);
        room.clear();
        let [on, full] = [(); 2].map(|()| AtomicBool::new(false));
        Trace(Some(Arc::new(Recorder { zero, on, full, spans: Mutex::new(room) })))
    }

    /// From now on spans are recorded, until there is no room left.
    pub fn start(&self) {
        self.0.iter().for_each(|recorder| recorder.on.store(true, Ordering::Relaxed));
    }

    /// Nothing more is recorded: what was, and whether there was more than there is room for.
    pub fn stop(&self) -> (Vec<Span>, bool) {
        self.0.as_ref().map_or_else(Default::default, |recorder| {
            recorder.on.store(false, Ordering::Relaxed);
            (std::mem::take(&mut *recorder.spans()), recorder.full.load(Ordering::Relaxed))
        })
    }

    /// Whether there is a recorder.
    pub fn is_some(&self) -> bool {
        self.0.is_some()
    }

    /// Nanoseconds since the recorder was made.
    pub fn clock(&self) -> u64 {
        self.0.as_ref().map_or(0, |recorder| recorder.zero.elapsed().as_nanos() as u64)
    }

    /// A span begins.
    #[inline]
    pub fn now(&self) -> Mark {
        match &self.0 {
            Some(recorder) if recorder.on.load(Ordering::Relaxed) => Mark(Some(Instant::now())),
            _ => Mark(None),
        }
    }

    /// The span that began at `mark` ends.
    #[inline]
    pub fn end(&self, mark: Mark, what: What, about: usize, numbers: [u64; 4]) {
        if let (Some(recorder), Some(start)) = (&self.0, mark.0) {
            recorder.add(start, Instant::now(), what, about, numbers);
        }
    }

    /// The span from `mark` to `end`, which is when the next one begins.
    #[inline]
    pub fn end_at(&self, mark: Mark, end: Mark, what: What, about: usize, numbers: [u64; 4]) {
        if let (Some(recorder), Some(start), Some(end)) = (&self.0, mark.0, end.0) {
            recorder.add(start, end, what, about, numbers);
        }
    }

    /// `work` is a span.
    #[inline]
    pub fn span<T>(&self, what: What, about: usize, numbers: [u64; 4], work: impl FnOnce() -> T) -> T {
        let mark = self.now();
        let result = work();
        self.end(mark, what, about, numbers);
        result
    }
}

impl Recorder {
    fn spans(&self) -> std::sync::MutexGuard<'_, Vec<Span>> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, start: Instant, end: Instant, what: What, about: usize, numbers: [u64; 4]) {
        let mut spans = self.spans();
        if spans.len() == spans.capacity() {
            self.on.store(false, Ordering::Relaxed);
            self.full.store(true, Ordering::Relaxed);
            return;
        }
        let since = |from: Instant, to: Instant| to.saturating_duration_since(from).as_nanos() as u64;
        let (start, took) = (since(self.zero, start), since(start, end));
        spans.push(Span { start, took, what, about: about as u32, numbers });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_recorded_before_the_start_and_nothing_beyond_the_room() {
        let trace = Trace::with_room(3);
        trace.span(What::NodeBarrier, 0, [0; 4], || ());
        trace.start();
        let outer = trace.now();
        for step in 0..2 {
            trace.span(What::Forward, step, [7; 4], || ());
        }
        trace.end(outer, What::Step, 5, [0; 4]);
        assert!(trace.now().is_on());
        trace.span(What::NodeBarrier, 0, [0; 4], || ());
        assert!(!trace.now().is_on(), "it is full");
        let (spans, full) = trace.stop();
        let found: Vec<_> = spans.iter().map(|span| (span.what, span.about)).collect();
        assert_eq!((found, full), (vec![(What::Forward, 0), (What::Forward, 1), (What::Step, 5)], true));
        assert!(spans[2].start <= spans[0].start && spans[1].start >= spans[0].start + spans[0].took);
        assert!(spans[2].start + spans[2].took >= spans[1].start + spans[1].took);
    }

    #[test]
    fn off_it_gives_nothing() {
        let trace = Trace::default();
        trace.start();
        trace.span(What::NodeBarrier, 0, [0; 4], || ());
        assert!(!trace.now().is_on() && trace.stop() == (Vec::new(), false));
    }

    #[test]
    fn all_kinds_are_listed_under_their_number() {
        assert!(What::ALL.iter().enumerate().all(|(number, what)| *what as usize == number));
    }
}
