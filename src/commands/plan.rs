//! `glasses plan`: what training would take on a cluster, from kernels measured here and a model of the exchange.

mod rates;
mod units;

use serde::Serialize;

use super::bench::work::SHARDS;
use super::info::parse_input;
use crate::comm::{Comm, Communicator, SharedWindow, Strategy, Wire, on_root};
use crate::config::ModelChoice;
use crate::data::RowShape;
use crate::error::{Error, Result};
use crate::model::Engine;
use crate::model::Model;
use crate::optim::OptimizerKind;
use crate::plural::plural;
use crate::row_count::RowCount;
use crate::say;
use crate::train::cost::{Link, Predicted, Rates, Shape, best, predict};
use crate::train::{Setting, all_by, can_share, can_take, decide};
use rates::Measured;
use units::{Ranks, bandwidth, cores, latency, ranks};

/// Options of `glasses plan`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Efficiency, of N ranks whose step takes TN seconds where that of one takes T1:\n  \
    without --weak: T1/(N TN), strong scaling: all steps have the same --batch\n  \
    with --weak: T1/TN, weak scaling: a step of N ranks has N times as many rows\n\n\
    Examples:\n  \
    glasses plan --ranks 1..8192 --ranks-per-node 64 --batch 8192\n  \
    glasses plan --ranks 2,4 --ranks-per-node 1 --bandwidth 1gbit --latency 50us")]
pub struct Options {
    /// Network: a name of the zoo or a model file
    #[arg(long, value_name = "NAME|FILE.toml", default_value = "glasses")]
    pub model: ModelChoice,
    /// Input of that network: height x width (pixels) x channels, or a number of features
    #[arg(long, value_name = "HxWxC|D", default_value = "80x80x3", value_parser = parse_input)]
    pub input: RowShape,
    /// Classes of that network
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub classes: usize,
    /// Rows a step, over all ranks together; with --weak, of each rank
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub batch: u32,
    /// --batch is each rank's: more ranks make larger steps
    #[arg(long)]
    pub weak: bool,
    /// Ranks: a list (1,2,8), or FIRST..LAST, doubling
    #[arg(long, value_name = "LIST|A..B", default_value = "1..64", value_parser = ranks)]
    pub ranks: Ranks,
    /// Ranks of a machine
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1 << 16))]
    pub ranks_per_node: u32,
    /// Cores of a machine for its ranks: with fewer than ranks, they take turns [default: one a rank]
    #[arg(long, value_name = "N", value_parser = cores)]
    pub cores_per_node: Option<f64>,
    /// Bandwidth between machines, each way, a second: 100Gbit, 1gbit, 12GB
    #[arg(long, value_name = "B", default_value = "100Gbit", value_parser = bandwidth)]
    pub bandwidth: f64,
    /// Time that a short message takes between machines: 2us, 0.1ms
    #[arg(long, value_name = "T", default_value = "2us", value_parser = latency)]
    pub latency: f64,
    /// Shards of the run [default: 8, or the ranks if more]
    #[arg(long, value_name = "S")]
    pub shards: Option<usize>,
    /// The strategy whose step is shown first
    #[arg(long, value_enum, default_value = "auto")]
    pub comm: Comm,
    /// Whether the ranks of a machine share memory ('auto': yes)
    #[arg(long, value_enum, default_value = "auto")]
    pub window: SharedWindow,
    /// Width of the numbers that travel between machines
    #[arg(long, value_enum, default_value = "f32")]
    pub wire: Wire,
    /// Least rows of a group whose rows batch norms normalise together; 'all': the rows of a step
    #[arg(long, value_name = "N|all", default_value = "all")]
    pub norm_rows: RowCount,
    /// How gradients change weights
    #[arg(long, value_enum, default_value = "sgd")]
    pub optimizer: OptimizerKind,
    /// One JSON object instead of a table; times in seconds, sizes in bytes
    #[arg(long)]
    pub json: bool,
}

/// One number of ranks.
#[derive(Debug, Serialize)]
struct Row {
    ranks: usize,
    machines: usize,
    batch: usize,
    /// Of each dense layer; none where all layers are summed.
    strategies: Vec<Strategy>,
    step: Predicted,
    images_per_sec: f64,
    /// T1/(N TN), the batch being the same; of weak scaling T1/TN, each rank having as many rows.
    efficiency: f64,
    reduce: Predicted,
    factors: Option<Predicted>,
    split: Option<Predicted>,
}

/// What was measured here, and what follows.
#[derive(Debug, Serialize)]
struct Report {
    model: String,
    input: Vec<usize>,
    rates: Rates,
    link: Link,
    scaling: Scaling,
    /// The step of one rank, which efficiency refers to.
    one_rank: Predicted,
    rows: Vec<Row>,
}

/// What stays the same when ranks are added.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Scaling {
    /// The rows of a step.
    Strong,
    /// The rows of a rank.
    Weak,
}

/// Collective; the root measures and prints.
///
/// # Errors
/// When the network does not fit the input, or the memory of this machine.
pub fn run(options: &Options, comm: &dyn Communicator) -> Result<()> {
    on_root(comm, || {
        let report = report(options)?;
        if options.json {
            say!("{}", serde_json::to_string(&report).map_err(|e| Error::io("write", "stdout")(e.into()))?);
        } else {
            print(options, &report);
        }
        Ok(String::new())
    })?;
    Ok(())
}

fn report(options: &Options) -> Result<Report> {
    let flat = matches!(options.input, RowShape::Features { .. });
    let spec = options.model.resolve()?;
    let model = Model::new(spec, options.input.hwc(), flat, options.classes, Engine::Direct)?;
    let measured = Measured { input: options.input, classes: options.classes, optimizer: options.optimizer };
    let rates = rates::measure(&model, measured)?;
    let link = Link { latency: options.latency, bandwidth: options.bandwidth };
    let scaling = if options.weak { Scaling::Weak } else { Scaling::Strong };
    let mut rows: Vec<Row> = options.ranks.0.iter().map(|&ranks| row(options, &model, &rates, &link, ranks)).collect();
    // What `glasses train` does with these options on one rank.
    let one_rank = row(options, &model, &rates, &link, 1).step;
    for row in &mut rows {
        let more_ranks = if options.weak { 1.0 } else { row.ranks as f64 };
        row.efficiency = one_rank.seconds / more_ranks / row.step.seconds;
    }
    let input = options.input.hwc().to_vec();
    Ok(Report { model: model.spec.name.clone(), input, rates, link, scaling, one_rank, rows })
}

/// A row of the table, its efficiency being that of one rank.
fn row(options: &Options, model: &Model, rates: &Rates, link: &Link, ranks: usize) -> Row {
    let on_machine = (options.ranks_per_node as usize).min(ranks);
    let batch = options.batch as usize * if options.weak { ranks } else { 1 };
    let shards = options.shards.unwrap_or(ranks.max(SHARDS)).max(ranks);
    let setting = Setting {
        batch,
        shards,
        ranks,
        on_machine,
        cores: options.cores_per_node.unwrap_or(on_machine as f64),
        window: options.window != SharedWindow::Off && on_machine > 1,
        wire: options.wire,
        norm_rows: options.norm_rows,
        norm: 0,
    };
    let (shape, steps) = (Shape::of(model), model.dense_steps());
    let fits = can_share(&steps, &setting);
    let may = |layer: usize, strategy: Strategy| can_take(&steps[layer], strategy, ranks);
    let with = |strategies: &[Strategy]| predict(&shape, strategies, rates, link, &setting);
    let all = |strategy: Strategy| all_by(strategy, &steps, ranks);
    let strategies = decide(options.comm, &steps, &setting, || best(&shape, rates, link, &setting, &may));
    let step = with(&strategies);
    Row {
        ranks,
        machines: ranks.div_ceil(on_machine),
        batch,
        step,
        images_per_sec: batch as f64 / step.seconds,
        efficiency: 1.0,
        reduce: with(&[]),
        factors: fits.then(|| with(&all(Strategy::Factors))),
        split: (fits && (0..steps.len()).any(|layer| may(layer, Strategy::Split))).then(|| with(&all(Strategy::Split))),
        strategies,
    }
}

fn print(options: &Options, report: &Report) {
    let Rates { images, dense, .. } = report.rates;
    say!(
        "model '{}': a row below the first dense layer takes {:.3} ms here, a million dense weights {:.3} ms and {:.4} ms a row",
        report.model,
        1e3 * (images[0].a_row + images[1].a_row),
        1e9 * dense.iter().map(|part| part.fixed).sum::<f64>(),
        1e9 * dense.iter().map(|part| part.a_row).sum::<f64>(),
    );
    say!(
        "between machines: {:.1} Gbit/s, {:.1} us; {} a machine",
        8e-9 * report.link.bandwidth,
        1e6 * report.link.latency,
        plural(options.ranks_per_node as usize, "rank")
    );
    if report.rows.iter().any(|row| row.step.norm_exchanges > 0) {
        say!("norms: exchanges of batch norms' sums in a step");
    }
    let ms = 1e3 * report.one_rank.seconds;
    let rows = plural(options.batch as usize, "row");
    let (efficiency, meaning) = match report.scaling {
        Scaling::Strong => ("strong eff", format!("T1/(N TN), T1 = {ms:.2} ms: one rank with the same {rows}")),
        Scaling::Weak => ("weak eff", format!("T1/TN, T1 = {ms:.2} ms: one rank with its {rows}")),
    };
    say!("{efficiency}iciency of N ranks: {meaning}");
    say!("");
    let head = ["ranks", "nodes", "batch", "strategy", "ms/step", "images/s", efficiency, "MB sent", "MB read"];
    let has_norms = report.rows.iter().any(|row| row.step.norm_exchanges > 0);
    let norms = |text: &dyn std::fmt::Display| if has_norms { format!(" {text:>6}") } else { String::new() };
    say!(
        "{:>6} {:>6} {:>8}  {:<16} {:>9} {:>10} {:>10} {:>9} {:>9}{}   {:>9} {:>9} {:>9}",
        head[0],
        head[1],
        head[2],
        head[3],
        head[4],
        head[5],
        head[6],
        head[7],
        head[8],
        norms(&"norms"),
        "reduce",
        "factors",
        "split"
    );
    for row in &report.rows {
        let ms = |step: &Option<Predicted>| step.map_or("-".to_owned(), |step| format!("{:.2}", 1e3 * step.seconds));
        say!(
            "{:>6} {:>6} {:>8}  {:<16} {:>9.2} {:>10.0} {:>8.1} % {:>9.2} {:>9.2}{}   {:>9.2} {:>9} {:>9}",
            row.ranks,
            row.machines,
            row.batch,
            name(row),
            1e3 * row.step.seconds,
            row.images_per_sec,
            100.0 * row.efficiency,
            row.step.sent / 1e6,
            row.step.shared / 1e6,
            norms(&row.step.norm_exchanges),
            1e3 * row.reduce.seconds,
            ms(&row.factors),
            ms(&row.split)
        );
    }
}

/// What the dense layers take, from below.
fn name(row: &Row) -> String {
    if row.ranks == 1 {
        return "-".to_owned();
    }
    if row.strategies.is_empty() {
        return "reduce".to_owned();
    }
    let mut names: Vec<String> = row.strategies.iter().map(|strategy| format!("{strategy:?}").to_lowercase()).collect();
    names.dedup();
    names.join("+")
}
