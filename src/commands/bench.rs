//! `glasses bench`: what this machine gives, layer by layer and step by step. It times the code that trains and predicts,
//! on rows of random values, and compares it with a peak that it measures itself.

pub(super) mod measure;
mod report;
pub(super) mod work;

use crate::comm::{Communicator, Solo, all_agree, on_root};
use crate::config::ModelChoice;
use crate::data::RowShape;
use crate::error::{Error, Result};
use crate::kernels;
use crate::model::Engine;
use crate::model::{LayerInfo, Model, Times};
use crate::optim::OptimizerKind;
use crate::report::progress_bar;
use crate::say;
use crate::train::TrainData;
use measure::{Peak, Round, median, rounds};
use report::{Figure, InferenceFigures, LayerFigures, Report, StepFigures};
use work::{Inference, SHARDS, TrainingSteps, random_data};

/// Rows a step in the table of layers.
const TABLE_BATCH: usize = 16;

/// Rounds that the table of layers is the median of.
const TABLE_ROUNDS: usize = 9;

/// Pictures that inference takes at once, as `glasses predict` does.
const INFERENCE_BATCH: usize = 32;

/// Options of `glasses bench`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    glasses bench --model mnist --input 28x28x1 --classes 10 --seconds 0.05")]
pub struct Options {
    /// Network: a name of the zoo or a model file
    #[arg(long, value_name = "NAME|FILE.toml", default_value = "glasses")]
    pub model: ModelChoice,
    /// Input of that network: height x width (pixels) x channels, or a number of features
    #[arg(long, value_name = "HxWxC|D", default_value = "80x80x3", value_parser = super::info::parse_input)]
    pub input: RowShape,
    /// Classes of that network
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = count)]
    pub classes: usize,
    /// Rows a step: a whole training step is timed at each of these (the table of layers is always of batch 16)
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1,2,4,8,16,32,64,128,256", value_parser = count)]
    pub batch: Vec<usize>,
    /// Seconds that each figure is measured for, in five rounds; what takes longer at once is run three times, and the
    /// table of layers takes nine times as long. With 0.3 the default network takes less than a minute
    #[arg(long, value_name = "S", default_value = "0.3", value_parser = seconds)]
    pub seconds: f64,
    /// How gradients change weights at the end of a step
    #[arg(long, value_enum, default_value = "sgd")]
    pub optimizer: OptimizerKind,
    /// Engine for convolutions and dense layers [default: direct, with gemm beside it for the step and inference]
    #[arg(long, value_enum)]
    pub kernels: Option<Engine>,
    /// One JSON object instead of tables; every name of a number says its unit, shares are of 1
    #[arg(long)]
    pub json: bool,
}

fn count(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=1 << 16).contains(number));
    number.ok_or_else(|| "expected a number from 1 to 65536".to_owned())
}

fn seconds(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|seconds: &f64| *seconds > 0.0 && *seconds <= 3600.0);
    number.ok_or_else(|| "expected seconds, more than 0 and at most 3600".to_owned())
}

/// Collective: all ranks measure at the same time, each on its own core, without talking: what a full node gives. The
/// root prints the median rank's figures.
///
/// # Errors
/// When the network does not fit the input, or the memory of this machine.
pub fn run(options: &Options, comm: &dyn Communicator) -> Result<()> {
    let own = all_agree(comm, measure(options, comm.is_root()))?;
    let report = all_agree(comm, own.over_ranks(comm))?;
    on_root(comm, || {
        if options.json {
            say!("{}", serde_json::to_string(&report).map_err(|e| Error::io("write", "stdout")(e.into()))?);
        } else {
            report.print();
        }
        Ok(String::new())
    })?;
    Ok(())
}

/// This rank's figures.
fn measure(options: &Options, root: bool) -> Result<Report> {
    let flat = matches!(options.input, RowShape::Features { .. });
    let spec = options.model.resolve()?;
    let model = |engine| Model::new(spec.clone(), options.input.hwc(), flat, options.classes, engine);
    let engine = options.kernels.unwrap_or_default();
    let mut models = vec![model(engine)?];
    if options.kernels.is_none() {
        models.push(model(Engine::Gemm)?);
    }
    let most = options.batch.iter().copied().max().unwrap_or(1);
    let data = random_data(options.input, options.classes, most.max(256));
    let peak = Peak::new();
    let bar = progress_bar(root, options.batch.len() as u64 + 2, "parts");
    let table = table_rounds(options, &models[0], &data, &peak)?;
    bar.inc(1);
    let mut steps = Vec::new();
    for &batch in &options.batch {
        steps.push(step_figures(options, &models, &data, batch, &peak)?);
        bar.inc(1);
    }
    let inference = inference_figures(options, &models, &data, &peak);
    bar.finish_and_clear();
    Ok(Report {
        model: spec.name.clone(),
        input: sizes(options.input),
        classes: options.classes,
        parameters: models[0].parameters(),
        kernels: engine,
        isa: kernels::isa().name().to_owned(),
        cpu: measure::cpu_name(),
        ranks: 1,
        shards: SHARDS,
        optimizer: options.optimizer,
        seconds: options.seconds,
        peak_gflops: median(table.iter().map(|round| round.peak)) / 1e9,
        layers_batch: TABLE_BATCH,
        layers: layer_figures(options, models[0].layers(), &table),
        steps,
        inference,
    })
}

fn sizes(shape: RowShape) -> Vec<usize> {
    match shape {
        RowShape::Image { h, w, c } => vec![h, w, c],
        RowShape::Features { d } => vec![d],
    }
}

/// One round of the table of layers: some steps with a stopwatch a layer.
struct TableRound {
    /// FLOP/s.
    peak: f64,
    rows: f64,
    seconds: f64,
    layers: Vec<crate::model::LayerTimes>,
    load: f64,
    update: f64,
}

fn table_rounds(options: &Options, model: &Model, data: &TrainData, peak: &Peak) -> Result<Vec<TableRound>> {
    let solo = Solo::default();
    let mut step = TrainingSteps::new(model, data, TABLE_BATCH, options.optimizer, &solo)?;
    step.run();
    let rounds = (0..TABLE_ROUNDS).map(|_| {
        let peak = peak.measure();
        step.seconds = Default::default();
        model.start_profile(&mut step.lockstep.workspace);
        let (calls, seconds) = measure::repeat(options.seconds, &mut || step.run());
        TableRound {
            peak,
            rows: calls * TABLE_BATCH as f64,
            seconds,
            layers: model.profile(&step.lockstep.workspace),
            load: step.seconds.load,
            update: step.seconds.update,
        }
    });
    Ok(rounds.collect())
}

fn layer_figures(options: &Options, infos: &[LayerInfo], table: &[TableRound]) -> Vec<LayerFigures> {
    let ms = |seconds: &dyn Fn(&TableRound) -> f64| {
        median(table.iter().map(|round| 1e3 * seconds(round) / round.rows)) * TABLE_BATCH as f64
    };
    let share = |seconds: &dyn Fn(&TableRound) -> f64| median(table.iter().map(|round| seconds(round) / round.seconds));
    let mut found = Vec::new();
    for (index, layer) in table[0].layers.iter().enumerate() {
        let figure = |part: fn(&Times) -> f64| {
            let time = |round: &TableRound| part(&round.layers[index].times);
            let rate = |round: &TableRound| layer.flops as f64 * round.rows / time(round);
            (layer.flops > 0 && table.iter().all(|round| time(round) > 0.0)).then(|| Figure {
                gflops: median(table.iter().map(rate)) / 1e9,
                peak_share: median(table.iter().map(|round| rate(round) / round.peak)),
                ms: ms(&time),
            })
        };
        let sum = |round: &TableRound| round.layers[index].times.sum();
        // Two of the layers do nothing by themselves.
        let works = |info: &&LayerInfo| !["flatten", "softmax"].contains(&info.layer.as_str());
        let fused: Vec<&LayerInfo> = infos[layer.layers.clone()].iter().filter(works).collect();
        let names: Vec<&str> = fused.iter().map(|info| info.layer.as_str()).collect();
        found.push(LayerFigures {
            layer: names.join(" + "),
            block: fused.first().map_or_else(String::new, |info| info.block.clone()),
            input: layer.input.clone(),
            output: fused.last().map_or_else(Vec::new, |info| info.output.clone()),
            flops: layer.flops,
            forward: figure(|times| times.forward),
            backward_data: figure(|times| times.backward_data),
            backward_weights: figure(|times| times.backward_weights),
            ms: ms(&sum),
            share: share(&sum),
        });
    }
    let update = format!("{} update", format!("{:?}", options.optimizer).to_lowercase());
    found.push(LayerFigures::rest("rows prepared", ms(&|round| round.load), share(&|round| round.load)));
    found.push(LayerFigures::rest(&update, ms(&|round| round.update), share(&|round| round.update)));
    let rest = (1.0 - found.iter().map(|row| row.share).sum::<f64>()).max(0.0);
    found.push(LayerFigures::rest("loss, sums, the rest", rest * ms(&|round| round.seconds), rest));
    found
}

fn step_figures(
    options: &Options,
    models: &[Model],
    data: &TrainData,
    batch: usize,
    peak: &Peak,
) -> Result<StepFigures> {
    let solo = Solo::default();
    let steps = models.iter().map(|model| TrainingSteps::new(model, data, batch, options.optimizer, &solo));
    let mut steps = steps.collect::<Result<Vec<_>>>()?;
    let mut works: Vec<_> = steps.iter_mut().map(|step| || step.run()).collect();
    let found = rounds(options.seconds, peak, &mut works);
    let rate = |which: usize| median(found.iter().map(|round| round.rates[which])) * batch as f64;
    let flops = (models[0].training_flops() * batch as u64) as f64;
    Ok(StepFigures {
        batch,
        images_per_sec: rate(0),
        slowest_rank_images_per_sec: rate(0),
        gflops: median(found.iter().map(|round| flops * round.rates[0])) / 1e9,
        peak_share: median(found.iter().map(|round| flops * round.rates[0] / round.peak)),
        gemm_images_per_sec: (models.len() > 1).then(|| rate(1)),
    })
}

fn inference_figures(options: &Options, models: &[Model], data: &TrainData, peak: &Peak) -> InferenceFigures {
    let measure = |rows: usize| -> Vec<Round> {
        let mut inferences: Vec<_> = models.iter().map(|model| Inference::new(model, data, rows)).collect();
        let mut works: Vec<_> = inferences.iter_mut().map(|inference| || inference.run()).collect();
        rounds(options.seconds, peak, &mut works)
    };
    let (many, one) = (measure(INFERENCE_BATCH), measure(1));
    let rate = |which: usize| median(many.iter().map(|round| round.rates[which])) * INFERENCE_BATCH as f64;
    let latency = |which: usize| 1e3 * median(one.iter().map(|round| 1.0 / round.rates[which]));
    let baseline = models.len() > 1;
    InferenceFigures {
        batch: INFERENCE_BATCH,
        images_per_sec: rate(0),
        latency_ms: latency(0),
        gemm_images_per_sec: baseline.then(|| rate(1)),
        gemm_latency_ms: baseline.then(|| latency(1)),
    }
}
