//! The step allocates nothing: after the first one, every row, sum and scratch line has its place. A test binary of its
//! own, because the counting allocator serves a whole program.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use glasses::comm::{Communicator, Solo};
use glasses::data::{EpochOrder, Normalize, Normalizer, Shards};
use glasses::kernels::{self, Engine};
use glasses::model::{Gradients, Init, Model, Params, Workspace, zoo};
use glasses::optim::{Optimizer, OptimizerKind, Settings};

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

/// A whole step as the trainer makes it, of `batch` rows that belong to several shards.
fn check(name: &str, input: [usize; 3], normalize: Normalize, optimizer: OptimizerKind) {
    let (flat, batch, seed) = (input[0] == 1, 6, 3);
    let model = Model::new(zoo::find(name).unwrap(), input, flat, 3, Engine::Direct).unwrap();
    let mut params = Params::initial(model.table.clone(), Init::He, seed);
    let clip = Some(1.0);
    let settings = Settings { kind: optimizer, momentum: 0.9, weight_decay: 0.01, clip_value: clip, clip_norm: clip };
    let mut optimizer = Optimizer::new(settings, model.parameters());
    let [mut own, mut total] = [(); 2].map(|()| Gradients::zeros(model.parameters()));
    let shards = Shards::new(5 * batch, 4);
    let mut ws = Workspace::for_training(&model, batch + shards.count(), shards.count());
    let order = EpochOrder::new(&shards, 0..shards.count(), seed, 0);
    let (mut rows_of_shard, comm) = (Vec::new(), Solo::default());
    let values: usize = input.iter().product();
    let (pixels, features) = (vec![7u8; values], vec![0.5f32; values]);
    let normalizer = Normalizer::new(normalize, input[2]);
    for step in 0..3 {
        let count = allocations(|| {
            order.step(&shards, step, batch, &mut ws.rows, &mut rows_of_shard);
            kernels::leaves(&rows_of_shard, &mut ws.leaves);
            ws.batch = ws.rows.len();
            ws.labels.clear();
            ws.labels.extend((0..batch as u32).map(|row| row % 3));
            for row in ws.input_mut().chunks_exact_mut(values) {
                if flat { normalizer.features(&features, row) } else { normalizer.pixels(&pixels, row) }
            }
            model.forward(&params, &mut ws, Some((seed, 0)));
            own.start();
            model.backward(&params, &mut ws, (seed, 0), &mut own);
            own.finish();
            comm.sum_f32(&mut own.values, &mut total.values);
            optimizer.step(&mut params.values, total.sums_mut(), batch as u64, 1e-3);
        });
        assert!(step == 0 || count == 0, "{name}: step {step} allocates {count} times");
    }
    assert!(params.values.iter().all(|value| value.is_finite()));
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
