//! The step allocates nothing: after the first one, every row, sum and scratch line has its place. A test binary of its
//! own, because the counting allocator serves a whole program.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use glasses::comm::{Comm, Solo};
use glasses::data::{Augment, EpochOrder, Normalize, Normalizer, Part, RowBlock, RowShape, Values};
use glasses::metrics::Seconds;
use glasses::model::Engine;
use glasses::model::{Init, Model, zoo};
use glasses::optim::{OptimizerKind, Settings};
use glasses::train::{ExchangeConfig, Lockstep, StepContext, StepFlags, TrainData};

thread_local! {
    /// Allocations of this thread: the test harness has others.
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counting.
struct Counting;

// SAFETY: every call goes on to the system's allocator as it came; counting touches no heap memory.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller's promise, handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, handed on.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller's promise, handed on.
        unsafe { System.realloc(block, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often `work` allocates.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = COUNT.get();
    work();
    COUNT.get() - before
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(vec![1u8; 100]))), 1);
    assert_eq!(allocations(|| ()), 0);
}

/// Steps of `batch` rows that belong to several shards, by the trainer's own code: with dense layers' gradients summed, and with
/// their weights updated as they are formed; with the gradient's norm limited and without.
fn check(name: &str, input: [usize; 3], normalize: Normalize, optimizer: OptimizerKind) {
    for (comm, clip_norm) in [(Comm::Reduce, Some(1.0)), (Comm::Auto, None), (Comm::Auto, Some(1.0))] {
        check_exchange(
            name,
            input,
            normalize,
            optimizer,
            ExchangeConfig { comm, ..ExchangeConfig::default() },
            clip_norm,
        );
    }
}

fn check_exchange(
    name: &str,
    input: [usize; 3],
    normalize: Normalize,
    kind: OptimizerKind,
    exchange: ExchangeConfig,
    clip_norm: Option<f32>,
) {
    let (flat, batch, seed) = (input[0] == 1, 6, 3);
    let model = Model::new(zoo::find(name).unwrap(), input, flat, 3, Engine::Direct).unwrap();
    let settings = Settings { kind, momentum: 0.9, weight_decay: 0.01, clip_value: Some(1.0), clip_norm };
    let [h, w, c] = input;
    let (shape, row) = if flat { (RowShape::Features { d: c }, c) } else { (RowShape::Image { h, w, c }, h * w * c) };
    let rows = 5 * batch;
    let values = if flat { Values::Features(vec![0.5; rows * row]) } else { Values::Images(vec![7; rows * row]) };
    let labels = (0..rows as u32).map(|row| row % 3).collect();
    let data = TrainData {
        shape,
        classes: Vec::new(),
        train: Part::whole(RowBlock { range: 0..rows, values, labels }, row, 4),
        val: None,
        test: None,
        normalizer: Normalizer::new(normalize, c),
        augment: if flat { Augment::None } else { Augment::Mirror },
        fingerprint: String::new(),
        notes: Vec::new(),
    };
    let comm = Solo::default();
    let shards = &data.train.shards;
    let order = EpochOrder::new(shards, data.train.owned.clone(), seed, 0);
    let (mut lockstep, mut params, mut optimizer) =
        Lockstep::new(&model, &data, batch, exchange.clone(), settings, &comm).unwrap();
    params.draw(Init::He, seed);
    let before = params.clone();
    let mut seconds = Seconds::default();
    for step in 0..3 {
        let count = allocations(|| {
            lockstep.choose(&order, shards, step, batch);
            let flags = StepFlags::default();
            let context = StepContext { seed, epoch: 0, count: batch as u64, lr: 1e-3, flags };
            let result = lockstep.step(&model, &mut params, &mut optimizer, &data, context, &mut seconds);
            assert!(result.updated && result.finite);
        });
        assert!(step == 0 || count == 0, "{name}, {exchange:?}: step {step} allocates {count} times");
    }
    assert!(params.values.iter().all(|value| value.is_finite()));
    assert!(params.values[..] != before.values[..], "{name}: nothing was trained");
}

#[test]
fn the_step_of_the_paper_s_networks_allocates_nothing() {
    check("glasses", [80, 80, 3], Normalize::PerImage, OptimizerKind::Adamw);
    check("glasses-deep", [80, 80, 3], Normalize::Unit, OptimizerKind::Nesterov);
    check("glasses-wide", [80, 80, 3], Normalize::PerImage, OptimizerKind::Sgd);
}

#[test]
fn the_step_on_digits_on_many_channels_and_on_features_allocates_nothing() {
    check("mnist", [28, 28, 1], Normalize::PerImage, OptimizerKind::Momentum);
    check("mnist", [28, 28, 37], Normalize::PerImage, OptimizerKind::Adam);
    check("spiral", [1, 1, 2], Normalize::PerImage, OptimizerKind::Adam);
}
