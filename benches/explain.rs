//! Do the maps of what a network looks at lie on the glasses? On drawn faces it is known where those are:
//!
//!     cargo bench --bench explain -- runs/drawn/model.h5
//!
//! draws faces that no run has seen (seed 4242) at the model's size, and compares each method's map of the class 'glasses' with the
//! drawn frames and lenses: the share of the positive evidence that lies on them (or within a 32nd of the picture's side), against the share of the
//! picture that they cover; and how often the strongest place lies there. On photographs a band stands in for the eyes:
//!
//!     cargo bench --bench explain -- runs/real/model.h5 real.h5 0.25 0.55
//!
//! compares with the rows from 0.25 to 0.55 of the height, on the test rows.

use std::path::Path;

use glasses::checkpoint::{self, SavedModel};
use glasses::data::synth::faces;
use glasses::data::{Dataset, Split, Values};
use glasses::kernels;
use glasses::model::{Init, Method, Params, Workspace};

const SEED: u64 = 4242;
const ROWS: usize = 400;

/// A picture, its label, and where the glasses are.
type Case = (Vec<u8>, usize, Vec<bool>);

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    kernels::choose().expect("an instruction set");
    let Some(model) = args.first() else {
        println!("explain: name a model file: cargo bench --bench explain -- runs/…/model.h5");
        return;
    };
    let saved = checkpoint::read(Path::new(model)).unwrap_or_else(|e| panic!("{e}"));
    let cases = match &args[1..] {
        [data, from, to] => photographs(data, from.parse().expect("a share"), to.parse().expect("a share")),
        _ => drawn(saved.shape.hwc()[0]),
    };
    println!("{} pictures, half of them with glasses", cases.len());
    println!("method            predicted   pictures  evidence there  of the area  times  strongest there");
    for method in [Method::Gradient, Method::AveragedGradient, Method::Occlusion] {
        for correct in [true, false] {
            measure(&saved, &cases, method, correct);
        }
    }
    println!("the same network before it learned anything:");
    let params = Params::initial(saved.model.table.clone(), Init::He, 1);
    let untrained = SavedModel { params, ..saved };
    [true, false].into_iter().for_each(|correct| measure(&untrained, &cases, Method::Gradient, correct));
}

fn drawn(size: usize) -> Vec<Case> {
    let case = |row| {
        let (pixels, label) = faces::draw(SEED, row, size);
        let opaque: Vec<bool> = faces::eyewear(SEED, row, size).iter().map(|&alpha| alpha >= 64).collect();
        (pixels, usize::from(label), near(&opaque, size, size / 32))
    };
    (0..ROWS).map(case).collect()
}

fn photographs(data: &str, from: f64, to: f64) -> Vec<Case> {
    let dataset = Dataset::open(Path::new(data)).unwrap_or_else(|e| panic!("{e}"));
    let block = dataset.read(Split::Test, 0..dataset.rows(Split::Test)).unwrap_or_else(|e| panic!("{e}"));
    let [h, w, c] = dataset.shape.hwc();
    let Values::Images(pixels) = &block.values else { panic!("{data} holds no pictures") };
    let band: Vec<bool> = (0..h * w).map(|place| (from..to).contains(&((place / w) as f64 / h as f64))).collect();
    let cases = pixels.chunks_exact(h * w * c).zip(&block.labels);
    cases.map(|(pixels, &label)| (pixels.to_vec(), label as usize, band.clone())).collect()
}

/// Places within `distance` of a marked one, in rows and columns.
fn near(marked: &[bool], w: usize, distance: usize) -> Vec<bool> {
    let h = marked.len() / w;
    let around = |at: usize, end: usize| at.saturating_sub(distance)..(at + distance + 1).min(end);
    let is_near = |place: usize| around(place / w, h).any(|y| around(place % w, w).any(|x| marked[y * w + x]));
    (0..marked.len()).map(is_near).collect()
}

/// Prints the figures of the pictures with glasses whose class was predicted correctly (`correct`) or not; the map is always that of the class 'glasses'.
fn measure(saved: &SavedModel, cases: &[Case], method: Method, correct: bool) {
    let [h, w, c] = saved.shape.hwc();
    let mut ws = Workspace::for_inference(&saved.model, 32);
    let mut input = vec![0.0; h * w * c];
    let (mut count, mut inside, mut area, mut hits) = (0, 0.0, 0.0, 0);
    for (pixels, _, there) in cases.iter().filter(|(_, label, _)| *label == 1) {
        saved.normalizer.pixels(pixels, &mut input);
        let evidence = saved.model.explain_by(method, &saved.params, &mut ws, &input, 1);
        ws.batch = 1;
        ws.input_mut().copy_from_slice(&input);
        saved.model.forward(&saved.params, &mut ws, None);
        if (kernels::argmax(ws.logits()) == Some(1)) != correct {
            continue;
        }
        // Each place of the map stands for a block of pixels.
        let value = |place: usize| {
            let (y, x) = (place / w * evidence.h / h, place % w * evidence.w / w);
            f64::from(evidence.values[y * evidence.w + x].max(0.0))
        };
        let total: f64 = (0..h * w).map(value).sum();
        let there_sum: f64 = (0..h * w).filter(|&place| there[place]).map(value).sum();
        let strongest = (0..h * w).max_by(|&a, &b| value(a).total_cmp(&value(b))).unwrap_or(0);
        count += 1;
        inside += if total > 0.0 { there_sum / total } else { 0.0 };
        area += there.iter().filter(|&&there| there).count() as f64 / (h * w) as f64;
        hits += usize::from(there[strongest]);
    }
    let n = f64::from(count.max(1) as u32);
    println!(
        "{:<16}  {:<10}  {count:>8}  {:>12.1} %  {:>9.1} %  {:>5.2}  {:>13.1} %",
        format!("{method:?}"),
        if correct { "glasses" } else { "no glasses" },
        100.0 * inside / n,
        100.0 * area / n,
        inside / area.max(1e-9),
        100.0 * hits as f64 / n
    );
}
