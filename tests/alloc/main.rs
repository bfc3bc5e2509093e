//! The step allocates nothing: after the first one, every row, sum and scratch line has its place. A test binary of its
//! own, because the counting allocator serves a whole program.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use glasses::comm::{Comm, Communicator, Reduce, SharedWindow, Solo, Threads};
use glasses::data::{Augment, EpochOrder, Normalize, Normalizer, Part, RowBlock, RowShape, Shuffle, Values};
use glasses::metrics::Seconds;
use glasses::model::Engine;
use glasses::model::{Init, Model, ModelSpec, zoo};
use glasses::optim::{OptimizerKind, Settings};
use glasses::train::{ExchangeConfig, Lockstep, StepContext, StepFlags, TrainData};

thread_local! {
    /// Allocations of this thread: the test harness has others.
    static COUNT: Cell<u64> = const { Cell::new(0) };
    /// Bytes of them, whether they were given back or not.
    static BYTES: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, counting.
struct Counting;

// SAFETY: every call goes on to the system's allocator as it came; counting touches no heap memory.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        BYTES.set(BYTES.get() + layout.size());
        // SAFETY: the caller's promise, handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        BYTES.set(BYTES.get() + layout.size());
        // SAFETY: the caller's promise, handed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, handed on.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        BYTES.set(BYTES.get() + size);
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

/// How many bytes `work` allocates, and what it returns.
fn allocated<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = BYTES.get();
    let value = work();
    (BYTES.get() - before, value)
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(vec![1u8; 100]))), 1);
    assert_eq!(allocations(|| ()), 0);
}

/// A network with residual blocks and branches, whose tensors have several readers.
const BLOCKS: &str = r#"
name = "blocks"
layers = [
    "conv 3x3x8", "relu", { residual = ["conv 3x3x8", "relu", "conv 3x3x8"] }, "relu",
    { residual = ["conv 3x3x16 stride 2 pad 1"], shortcut = ["conv 1x1x16 stride 2 pad 0"] },
    { branches = [["conv 1x1x4"], ["maxpool 3 stride 1 pad 1"], []], join = "concat" },
    { residual = ["conv 3x3x36 groups 2", "batch_norm", "relu", "depthwise 3x3 dilation 2", "conv 3x3x36 dilation 2", "batch_norm rows 4"] },
    "group_norm 2", { scale = ["global_avgpool", "dense 4", "relu", "dense 36", "sigmoid"] }, { residual = ["layer_norm", "drop_path 0.1"] },
    "depthwise 3x3 x 2 stride 2", "adaptive_avgpool 3", "flatten", "dense 20", "batch_norm", "tanh", { residual = ["dense 20", "dropout 0.1"] },
    { branches = [["dense 5"], ["dense 6"], []], join = "concat" }, "dense classes",
]"#;

fn network(name: &str, input: [usize; 3]) -> Model {
    let spec = if name == "blocks" { ModelSpec::parse(BLOCKS, name) } else { zoo::find(name) };
    Model::new(spec.unwrap(), input, input[0] == 1, 3, Engine::Direct).unwrap()
}

/// Those of so many rows, in so many shards, that rank `rank` of `ranks` has.
fn faces(
    input: [usize; 3],
    normalize: Normalize,
    (rows, shards): (usize, usize),
    (rank, ranks): (usize, usize),
) -> TrainData {
    let [h, w, c] = input;
    let flat = h == 1;
    let (shape, row) = if flat { (RowShape::Features { d: c }, c) } else { (RowShape::Image { h, w, c }, h * w * c) };
    let values = |rows: usize| match flat {
        true => Values::Features(vec![0.5; rows * row]),
        false => Values::Images(vec![7; rows * row]),
    };
    let labels = (0..rows as u32).map(|row| row % 3).collect();
    let mut train = Part::whole(RowBlock { range: 0..rows, values: values(rows), labels }, row, shards);
    train.owned = train.shards.owned(rank, ranks);
    TrainData {
        shape,
        classes: Vec::new(),
        train,
        val: None,
        test: None,
        normalizer: Normalizer::new(normalize, c),
        augment: if flat { Augment::None } else { Augment::Mirror },
        fingerprint: String::new(),
        shuffle: Shuffle::whole(1),
        notes: Vec::new(),
    }
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
    let (batch, seed) = (6, 3);
    let (model, data) = (network(name, input), faces(input, normalize, (5 * batch, 4), (0, 1)));
    let settings = Settings { kind, momentum: 0.9, weight_decay: 0.01, clip_value: Some(1.0), clip_norm };
    let comm = Solo::default();
    let shards = &data.train.shards;
    let order = EpochOrder::new(shards, data.train.owned.clone(), &Shuffle::whole(seed), 0);
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
fn the_step_of_a_network_with_blocks_allocates_nothing() {
    check("blocks", [20, 17, 3], Normalize::PerImage, OptimizerKind::Adamw);
}

#[test]
fn the_step_on_digits_on_many_channels_and_on_features_allocates_nothing() {
    check("mnist", [28, 28, 1], Normalize::PerImage, OptimizerKind::Momentum);
    check("mnist", [28, 28, 37], Normalize::PerImage, OptimizerKind::Adam);
    check("spiral", [1, 1, 2], Normalize::PerImage, OptimizerKind::Adam);
}

/// All that a rank allocates before its first step is what it was going to be.
fn check_sizes(name: &str, input: [usize; 3], batch: usize, exchange: &ExchangeConfig, comm: &dyn Communicator) {
    let model = network(name, input);
    let data = faces(input, Normalize::PerImage, (4 * batch, 8), (comm.rank(), comm.size()));
    let kind = OptimizerKind::Adamw;
    let settings = Settings { kind, momentum: 0.9, weight_decay: 0.01, clip_value: None, clip_norm: Some(1.0) };
    let (allocated, started) =
        allocated(|| Lockstep::new(&model, &data, batch, exchange.clone(), settings, comm).unwrap());
    // The two ranks that measure the link between machines take memory for that.
    let nodes = comm.nodes();
    if nodes.count() > 1 && [0, nodes.ranks(nodes.count() - 1).start].contains(&comm.rank()) {
        return;
    }
    // Asking for all of it, once and whole, is an allocation, too.
    let expected = started.0.memory.bytes();
    let taken = allocated - expected;
    // Lists of units, layers and shards are no buffers.
    let lists = 1 << 16;
    let most = expected + expected / 100 + lists;
    assert!(
        (expected..=most).contains(&taken),
        "{name}, batch {batch}, {exchange:?}: {taken} bytes, {expected} expected"
    );
}

#[test]
fn what_is_taken_before_the_first_step_is_what_was_predicted() {
    for (name, input) in [("glasses", [80, 80, 3]), ("blocks", [60, 60, 3]), ("mnist", [28, 28, 8])] {
        for (comm, batch) in [(Comm::Reduce, 24), (Comm::Reduce, 600), (Comm::Factors, 24), (Comm::Split, 24)] {
            let exchange = ExchangeConfig { comm, ..ExchangeConfig::default() };
            check_sizes(name, input, batch, &exchange, &Solo::default());
            // One node group, several of different sizes, and ranks that share nothing.
            Threads::run(2, |comm| check_sizes(name, input, batch, &exchange, comm));
            Threads::run_on(&[1, 3, 2], |comm| check_sizes(name, input, batch, &exchange, comm));
            let exchange = ExchangeConfig { window: SharedWindow::Off, ..exchange };
            Threads::run(3, |comm| check_sizes(name, input, batch, &exchange, comm));
        }
    }
    let exchange = ExchangeConfig { reduce: Reduce::Mpi, ..ExchangeConfig::default() };
    Threads::run(2, |comm| check_sizes("glasses", [80, 80, 3], 24, &exchange, comm));
}

/// Four ranks of one machine, each of which the system would give its memory. Together they would touch more than is free.
#[test]
fn ranks_that_have_no_room_together_are_refused_before_they_take_memory() {
    let Some(available) = glasses::memory::available() else { return };
    let inputs = 30_000;
    let outputs = available / 40 / inputs;
    let text = format!("name = \"large\"\nlayers = [\"flatten\", \"dense {outputs}\", \"relu\", \"dense classes\"]");
    let spec = ModelSpec::parse(&text, "large").unwrap();
    let model = Model::new(spec, [1, 1, inputs], true, 3, Engine::Direct).unwrap();
    let settings =
        Settings { kind: OptimizerKind::Adamw, momentum: 0.9, weight_decay: 0.01, clip_value: None, clip_norm: None };
    let messages = Threads::run(4, |comm| {
        let data = faces([1, 1, inputs], Normalize::PerImage, (24, 8), (comm.rank(), 4));
        let exchange = ExchangeConfig { comm: Comm::Reduce, window: SharedWindow::Off, ..ExchangeConfig::default() };
        let (bytes, started) = allocated(|| Lockstep::new(&model, &data, 8, exchange, settings, comm).err());
        // It was asked for, once, and nothing else was taken.
        assert!(bytes < available * 6 / 10, "{bytes} of {available}");
        started.expect("a refusal").to_string()
    });
    for message in &messages {
        assert!(message.contains("model 'large': found steps that take "), "{message}");
        assert!(message.contains(" MB of this machine's memory for 4 ranks, expected at most the "), "{message}");
        assert!(message.contains("start fewer ranks a machine"), "{message}");
        assert_eq!(message, &messages[0]);
    }
}
