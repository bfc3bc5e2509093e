//! The figures: as JSON, as tables, and over ranks.

use serde::{Deserialize, Serialize};

use super::measure::median;
use crate::comm::Communicator;
use crate::error::{Error, Result};
use crate::model::Engine;
use crate::optim::OptimizerKind;
use crate::plural::plural;
use crate::report::percent;
use crate::say;

/// Everything that was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub model: String,
    pub input: Vec<usize>,
    pub classes: usize,
    pub parameters: usize,
    pub kernels: Engine,
    /// Of all ranks, where they differ.
    pub isa: String,
    /// Of all ranks, where they differ.
    pub cpu: Option<String>,
    /// Ranks that measured at once: figures are the median rank's.
    pub ranks: usize,
    pub shards: usize,
    pub optimizer: OptimizerKind,
    /// As asked for.
    pub seconds: f64,
    /// Of one core.
    pub peak_gflops: f64,
    /// Rows a step in `layers`.
    pub layers_batch: usize,
    pub layers: Vec<LayerFigures>,
    pub steps: Vec<StepFigures>,
    pub inference: InferenceFigures,
}

/// A part of a layer's work.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    pub gflops: f64,
    /// Median of the rounds' ratios to the peak of the same round.
    pub peak_share: f64,
    /// A step.
    pub ms: f64,
}

/// A row of the table of layers.
#[derive(Clone, Debug, Serialize)]
pub struct LayerFigures {
    /// Layers that run as one, or what else a step does.
    pub layer: String,
    /// The block that they stand in; nothing outside of all.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub block: String,
    pub input: Vec<usize>,
    pub output: Vec<usize>,
    /// Floating-point operations of a forward pass of one row; each part of the backward pass has as many.
    pub flops: u64,
    /// Null where nothing is multiplied.
    pub forward: Option<Figure>,
    /// Null for the first layer too.
    pub backward_data: Option<Figure>,
    pub backward_weights: Option<Figure>,
    /// A step, all parts together.
    pub ms: f64,
    /// Median of the rounds' ratios to the whole step of the same round; of what is left, 1 less the others.
    pub share: f64,
}

impl LayerFigures {
    /// As a line of the table names it.
    fn name(&self) -> String {
        if self.block.is_empty() { self.layer.clone() } else { format!("{} ({})", self.layer, self.block) }
    }

    /// What belongs to no layer.
    pub fn rest(name: &str, ms: f64, share: f64) -> LayerFigures {
        LayerFigures {
            layer: name.to_owned(),
            block: String::new(),
            input: Vec::new(),
            output: Vec::new(),
            flops: 0,
            forward: None,
            backward_data: None,
            backward_weights: None,
            ms,
            share,
        }
    }

    fn parts(&self) -> [&Option<Figure>; 3] {
        [&self.forward, &self.backward_data, &self.backward_weights]
    }
}

/// Whole training steps on one rank.
#[derive(Clone, Debug, Serialize)]
pub struct StepFigures {
    pub batch: usize,
    pub images_per_sec: f64,
    pub slowest_rank_images_per_sec: f64,
    pub gflops: f64,
    pub peak_share: f64,
    /// The baseline's images/s, where no engine was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gemm_images_per_sec: Option<f64>,
}

/// Prediction of decoded pictures.
#[derive(Clone, Debug, Serialize)]
pub struct InferenceFigures {
    /// Pictures at once, for `images_per_sec`.
    pub batch: usize,
    pub images_per_sec: f64,
    /// Of one picture alone.
    pub latency_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gemm_images_per_sec: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gemm_latency_ms: Option<f64>,
}

/// The figures that a rank sends to the others.
#[derive(Serialize, Deserialize)]
struct RankFigures {
    isa: String,
    cpu: Option<String>,
    numbers: Vec<f64>,
}

impl Report {
    /// Every number that was measured, in one order.
    fn numbers(&mut self) -> Vec<&mut f64> {
        let mut found = vec![&mut self.peak_gflops];
        for layer in &mut self.layers {
            for figure in [&mut layer.forward, &mut layer.backward_data, &mut layer.backward_weights] {
                found.extend(figure.iter_mut().flat_map(|f| [&mut f.gflops, &mut f.peak_share, &mut f.ms]));
            }
            found.extend([&mut layer.ms, &mut layer.share]);
        }
        for step in &mut self.steps {
            found.extend([&mut step.images_per_sec, &mut step.gflops, &mut step.peak_share]);
            found.extend(&mut step.gemm_images_per_sec);
        }
        let InferenceFigures { images_per_sec, latency_ms, gemm_images_per_sec, gemm_latency_ms, .. } =
            &mut self.inference;
        found.extend([images_per_sec, latency_ms]);
        found.extend([gemm_images_per_sec, gemm_latency_ms].into_iter().flatten());
        found
    }

    /// Collective: the median of all ranks' figures.
    ///
    /// # Errors
    /// Never in practice: what one rank writes, another can read.
    pub fn over_ranks(mut self, comm: &dyn Communicator) -> Result<Report> {
        if comm.size() == 1 {
            return Ok(self);
        }
        let numbers = self.numbers().into_iter().map(|number| *number).collect();
        let figures = RankFigures { isa: self.isa.clone(), cpu: self.cpu.clone(), numbers };
        // Empty where it fails: everyone takes part in what is collective.
        let all = comm.allgather(&serde_json::to_vec(&figures).unwrap_or_default());
        let all = all.iter().map(|bytes| serde_json::from_slice::<RankFigures>(bytes)).collect::<Result<Vec<_>, _>>();
        let all = all.map_err(|e| Error::io("gather", "the figures")(e.into()))?;
        let mut least = self.clone();
        for (place, number) in least.numbers().into_iter().enumerate() {
            *number = all.iter().map(|figures| figures.numbers[place]).fold(f64::INFINITY, f64::min);
        }
        for (place, number) in self.numbers().into_iter().enumerate() {
            *number = median(all.iter().map(|figures| figures.numbers[place]));
        }
        for (step, least) in self.steps.iter_mut().zip(&least.steps) {
            step.slowest_rank_images_per_sec = least.images_per_sec;
        }
        self.isa = different(all.iter().map(|figures| figures.isa.as_str())).unwrap_or_default();
        self.cpu = different(all.iter().filter_map(|figures| figures.cpu.as_deref()));
        self.ranks = comm.size();
        Ok(self)
    }

    /// Tables for people.
    pub fn print(&self) {
        let engine = format!("{:?}", self.kernels).to_lowercase();
        say!("model '{}' for input {}, {}", self.model, join(&self.input), plural(self.parameters, "parameter"));
        // The second engine's crate picks an instruction set by itself.
        let rest = if self.kernels == Engine::Gemm { "by their own choice, the rest on " } else { "" };
        say!(
            "{engine} kernels, {rest}{}, on {}",
            self.isa,
            self.cpu.as_deref().unwrap_or("a processor without a name")
        );
        say!("peak {:.1} GFLOP/s a core: fused multiply-adds, measured along with the rest", self.peak_gflops);
        say!(
            "each figure is the median of its rounds; %, peak and share are medians of the rounds' own ratios, not ratios of medians"
        );
        if self.ranks > 1 {
            say!("{} ranks at once; each figure is the median of theirs", self.ranks);
        }
        self.print_layers();
        self.print_steps();
        let InferenceFigures { batch, images_per_sec, latency_ms, .. } = self.inference;
        say!(
            "\ninference, rows in memory: {images_per_sec:.0} images/s at batch {batch}, {latency_ms:.2} ms at batch 1"
        );
        if let (Some(images), Some(ms)) = (self.inference.gemm_images_per_sec, self.inference.gemm_latency_ms) {
            say!("with --kernels gemm: {images:.0} images/s, {ms:.2} ms");
        }
    }

    fn print_layers(&self) {
        let shapes: Vec<String> = self.layers.iter().map(LayerFigures::shapes).collect();
        let width = |least: usize, texts: &mut dyn Iterator<Item = &str>| texts.map(str::len).fold(least, usize::max);
        let names: Vec<String> = self.layers.iter().map(LayerFigures::name).collect();
        let name = width(5, &mut names.iter().map(String::as_str));
        let shape = width(5, &mut shapes.iter().map(String::as_str));
        say!("\nlayers at batch {}: GFLOP/s and % of the peak", self.layers_batch);
        say!("(every product of a window counted: 3x3 by Winograd's tiles makes fewer, and may pass 100 %)");
        let heads = ["forward", "backward-data", "backward-weights"];
        let [forward, data, weights] = heads.map(|head| format!("{head:>16}"));
        say!("{:<name$}  {:<shape$} {forward} {data} {weights}  {:>8}  {:>7}", "layer", "shape", "ms", "share");
        for ((layer, shapes), own_name) in self.layers.iter().zip(&shapes).zip(&names) {
            let [forward, data, weights] = layer.parts().map(|figure| match figure {
                Some(figure) => format!("{:>9.1} {:>4.0} %", figure.gflops, 100.0 * figure.peak_share),
                None => format!("{:>16}", "-"),
            });
            let (ms, share) = (layer.ms, percent(layer.share));
            say!("{:<name$}  {shapes:<shape$} {forward} {data} {weights}  {ms:>8.3}  {share:>7}", own_name);
        }
    }

    fn print_steps(&self) {
        let optimizer = format!("{:?}", self.optimizer).to_lowercase();
        say!("\ntraining steps on one rank: forward, backward, {optimizer}");
        let several = self.ranks > 1;
        let baseline = self.steps.iter().any(|step| step.gemm_images_per_sec.is_some());
        let column = |shown: bool, text: String| if shown { text } else { String::new() };
        let slowest = column(several, format!("{:>14}", "slowest rank"));
        let gemm = column(baseline, format!("{:>16}", "gemm images/s"));
        say!("{:>5}  {:>10}{slowest}  {:>8}  {:>6}{gemm}", "batch", "images/s", "GFLOP/s", "peak");
        for step in &self.steps {
            let slowest = column(several, format!("{:>14}", images(step.slowest_rank_images_per_sec)));
            let gemm = step.gemm_images_per_sec.map_or(String::new(), |rate| format!("{:>16}", images(rate)));
            let (rate, share) = (images(step.images_per_sec), 100.0 * step.peak_share);
            say!("{:>5}  {rate:>10}{slowest}  {:>8.1}  {share:>4.0} %{gemm}", step.batch, step.gflops);
        }
    }
}

impl LayerFigures {
    fn shapes(&self) -> String {
        if self.input == self.output { join(&self.output) } else { join(&self.input) + " > " + &join(&self.output) }
    }
}

/// Images a second, with a digit behind the point where there are few.
fn images(rate: f64) -> String {
    if rate < 100.0 { format!("{rate:.1}") } else { format!("{rate:.0}") }
}

fn join(sizes: &[usize]) -> String {
    sizes.iter().map(ToString::to_string).collect::<Vec<_>>().join("x")
}

/// Each text once.
fn different<'a>(texts: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut found: Vec<&str> = texts.collect();
    found.sort_unstable();
    found.dedup();
    (!found.is_empty()).then(|| found.join(", "))
}
