//! Maps of what a network looks at: their arithmetic, and whether they lie on the glasses of drawn faces.

use std::path::Path;

use glasses::checkpoint;
use glasses::data::synth::faces;
use glasses::kernels;
use glasses::model::Engine;
use glasses::model::{Init, Method, Model, ModelSpec, Params, Workspace};

use crate::fixtures::words;
use crate::golden::assert_close;
use crate::run::glasses;

fn model(layers: &str, input: [usize; 3], classes: usize) -> Model {
    kernels::choose().unwrap();
    let spec = ModelSpec::parse(&format!("name = \"map\"\nlayers = [{layers}]"), "a test").unwrap();
    Model::new(spec, input, false, classes, Engine::Direct).unwrap()
}

fn picture(length: usize) -> Vec<f32> {
    (0..length).map(|i| ((i * 7919 + 13) % 211) as f32 / 100.0 - 1.0).collect()
}

/// Logits of one picture.
fn logits(model: &Model, params: &Params, ws: &mut Workspace, input: &[f32]) -> Vec<f32> {
    ws.batch = 1;
    ws.input_mut().copy_from_slice(input);
    model.forward(params, ws, None);
    ws.logits().to_vec()
}

#[test]
fn the_evidence_adds_up_to_the_log_odds_where_nothing_but_rectifiers_and_weights_follow() {
    // Initial biases are zero, so all of the log odds comes from places.
    for (layers, map) in [
        ("\"conv 3x3x8\", \"relu\", \"maxpool 2\", \"flatten\", \"dense classes\"", (6, 6)),
        (
            "\"conv 3x3x8\", \"relu\", \"conv 3x3x16\", \"relu\", \"flatten\", \"dense 9\", \"relu\", \"dropout 0.5\", \"dense classes\"",
            (12, 12),
        ),
        (
            "\"conv 3x3x8\", \"leaky_relu 0.1\", \"maxpool 2\", \"conv 3x3x5\", \"relu\", \"global_avgpool\", \"dense classes\"",
            (6, 6),
        ),
        ("\"conv 5x5x6 stride 2\", \"relu\", \"dropout 0.1\", \"avgpool 2\", \"flatten\", \"dense classes\"", (3, 3)),
        ("\"conv 3x3x8\", \"tanh\", \"relu\", \"maxpool 3 stride 3\", \"flatten\", \"dense classes\"", (4, 4)),
    ] {
        let model = model(layers, [12, 12, 3], 2);
        let params = Params::initial(model.table.clone(), Init::He, 3);
        let mut ws = Workspace::for_explanation(&model, 4);
        let input = picture(12 * 12 * 3);
        let said = logits(&model, &params, &mut ws, &input);
        for class in 0..2 {
            let evidence = model.explain(&params, &mut ws, &input, class);
            assert_eq!((evidence.method, evidence.h, evidence.w), (Method::Gradient, map.0, map.1), "{layers}");
            let sum: f64 = evidence.values.iter().map(|&v| f64::from(v)).sum();
            let wanted = f64::from(said[class] - said[1 - class]);
            assert!((sum - wanted).abs() <= 1e-4 * wanted.abs().max(1.0), "{layers}: {sum} {wanted}");
        }
        // A training workspace gives the same map.
        let mut training = Workspace::for_training(&model, 4, 2);
        let two = [&mut ws, &mut training].map(|ws| model.explain(&params, ws, &input, 1));
        assert_eq!(two[0], two[1], "{layers}");
    }
}

#[test]
fn with_more_classes_the_map_is_the_slope_of_the_log_odds() {
    // The last layer alone follows, so scaling all activations by 1 + s moves the log odds by s times the map's sum. The
    // network is positively homogeneous: scaling the input does the same.
    let model = model("\"conv 3x3x8\", \"relu\", \"maxpool 2\", \"flatten\", \"dense classes\"", [12, 12, 3], 5);
    let params = Params::initial(model.table.clone(), Init::He, 5);
    let mut ws = Workspace::for_explanation(&model, 1);
    let input = picture(12 * 12 * 3);
    for class in 0..5 {
        let mut odds = |scale: f32| {
            let scaled: Vec<f32> = input.iter().map(|v| v * scale).collect();
            let said: Vec<f64> = logits(&model, &params, &mut ws, &scaled).iter().map(|&v| f64::from(v)).collect();
            let others = said.iter().enumerate().filter(|(i, _)| *i != class).map(|(_, v)| v.exp()).sum::<f64>();
            said[class] - others.ln()
        };
        let slope = (odds(1.01) - odds(0.99)) / 0.02;
        let evidence = model.explain(&params, &mut ws, &input, class);
        let sum: f64 = evidence.values.iter().map(|&v| f64::from(v)).sum();
        assert!((sum - slope).abs() <= 2e-3 * slope.abs().max(1.0), "class {class}: {sum} {slope}");
    }
}

#[test]
fn without_a_layer_of_pictures_patches_are_painted_over_and_find_the_pixel_that_decides() {
    let model = model("\"flatten\", \"dense classes\"", [16, 16, 1], 2);
    let mut params = Params::initial(model.table.clone(), Init::He, 1);
    params.values.fill(0.0);
    let (y, x) = (5, 11);
    params.values[(y * 16 + x) * 2 + 1] = 3.0;
    let mut input = vec![0.0; 256];
    input[y * 16 + x] = 1.0;
    for capacity in [1, 7, 300] {
        let mut ws = Workspace::for_explanation(&model, capacity);
        let evidence = model.explain(&params, &mut ws, &input, 1);
        assert_eq!((evidence.method, evidence.h, evidence.w), (Method::Occlusion, 16, 16));
        let strongest = (0..256).max_by(|&a, &b| evidence.values[a].total_cmp(&evidence.values[b])).unwrap();
        assert!((strongest / 16).abs_diff(y) <= 1 && (strongest % 16).abs_diff(x) <= 1, "{strongest}");
        assert!(evidence.values[0].abs() <= 1e-6, "{evidence:?}");
        let against = model.explain(&params, &mut ws, &input, 0);
        assert!((against.values[strongest] + evidence.values[strongest]).abs() <= 1e-5);
    }
}

/// The network `layers`, and the one that ends in its last map, spread out as logits; both with the same weights.
fn with_last_map(layers: &str, rest: &str, map: [usize; 3]) -> [(Model, Params); 2] {
    [(format!("{layers}, {rest}"), 2), (format!("{layers}, \"flatten\""), map.iter().product())].map(
        |(layers, classes)| {
            let spec = ModelSpec::parse(&format!("name = \"map\"\nlayers = [{layers}]"), "a test").unwrap();
            let model = Model::new(spec, [12, 12, 3], false, classes, Engine::Direct).unwrap();
            let params = Params::initial(model.table.clone(), Init::He, 3);
            (model, params)
        },
    )
}

#[test]
fn evidence_is_shown_at_a_last_map_that_is_a_sum_or_a_concat() {
    let down = r#""conv 3x3x5", "relu", { residual = ["conv 3x3x6 stride 2 pad 1", "relu", "conv 3x3x6"], shortcut = ["conv 1x1x6 stride 2"] }"#;
    let same = r#""conv 3x3x5", { residual = ["conv 3x3x5", "tanh"] }"#;
    let mix = r#""conv 3x3x5", "relu", { branches = [["conv 1x1x3", "relu"], ["maxpool 3 stride 1 pad 1"], []], join = "concat" }"#;
    for (layers, rest, map @ [h, w, c]) in [
        (down, r#""global_avgpool", "dense classes""#, [6, 6, 6]),
        (down, r#""flatten", "dense classes""#, [6, 6, 6]),
        (same, r#""flatten", "dense classes""#, [12, 12, 5]),
        (mix, r#""flatten", "dense classes""#, [12, 12, 13]),
        (mix, r#""global_avgpool", "dense classes""#, [12, 12, 13]),
    ] {
        let [(model, params), (before, mut cut)] = with_last_map(layers, rest, map);
        let weights = cut.values.len();
        cut.values.copy_from_slice(&params.values[..weights]);
        let input = picture(12 * 12 * 3);
        let values = logits(&before, &cut, &mut Workspace::for_inference(&before, 1), &input);
        // The one layer of weights behind it, `[inputs, 2]`.
        let dense = &params.values[weights..];
        let is_mean = rest.contains("avgpool");
        for class in 0..2 {
            let part = |at: usize| {
                let row = if is_mean { at % c } else { at };
                let share = if is_mean { (h * w) as f32 } else { 1.0 };
                values[at] * (dense[2 * row + class] - dense[2 * row + 1 - class]) / share
            };
            let want: Vec<f32> =
                (0..h * w).map(|place| (0..c).map(|channel| part(place * c + channel)).sum()).collect();
            let evidence = model.explain(&params, &mut Workspace::for_explanation(&model, 4), &input, class);
            assert_eq!((evidence.method, evidence.h, evidence.w), (Method::Gradient, h, w), "{layers}, {rest}");
            assert_close(&evidence.values, &want, 2e-5, &format!("{layers}, {rest}, class {class}"));
        }
    }
}

/// A network that learns small faces in seconds.
const SMALL: &str = r#"name = "small"
layers = ["conv 3x3x8", "relu", "maxpool 2", "conv 3x3x16", "relu", "maxpool 2", "flatten", "dense 32", "relu", "dense classes"]
"#;

/// Of the positive evidence for glasses in unseen drawn faces with glasses, the share on them or a pixel beside; and the share
/// of the picture that this is.
fn on_the_glasses(model: &Model, params: &Params, prepare: impl Fn(&[u8], &mut [f32]), size: usize) -> (f64, f64) {
    let mut ws = Workspace::for_explanation(model, 8);
    let mut input = vec![0.0; size * size * 3];
    let (mut inside, mut area, mut count) = (0.0, 0.0, 0.0);
    for row in (1..200).step_by(2) {
        prepare(&faces::draw(4242, row, size).0, &mut input);
        let opaque = faces::eyewear(4242, row, size);
        let near = |place: usize| {
            let around = |at: usize| at.saturating_sub(1)..(at + 2).min(size);
            around(place / size).any(|y| around(place % size).any(|x| opaque[y * size + x] >= 64))
        };
        let evidence = model.explain(params, &mut ws, &input, 1);
        let value = |place: usize| {
            let (y, x) = (place / size * evidence.h / size, place % size * evidence.w / size);
            f64::from(evidence.values[y * evidence.w + x].max(0.0))
        };
        let (mut there, mut all) = (0.0, 0.0);
        for place in 0..size * size {
            let is_near = near(place);
            all += value(place);
            there += if is_near { value(place) } else { 0.0 };
            area += if is_near { 1.0 / (size * size) as f64 } else { 0.0 };
        }
        inside += if all > 0.0 { there / all } else { 0.0 };
        count += 1.0;
    }
    (inside / count, area / count)
}

#[test]
fn the_frames_of_drawn_glasses_light_up_once_the_network_has_learned() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("small.toml"), SMALL).unwrap();
    glasses(&words("synth --size 40 --count 1200 --out faces.h5"), dir.path()).success();
    let train = "--data faces.h5 --model small.toml --epochs 8 --lr 2e-3 --out run";
    glasses(&words(train), dir.path()).success();
    kernels::choose().unwrap();
    let saved = checkpoint::read(&dir.path().join("run/model.h5")).unwrap();
    let prepare = |pixels: &[u8], input: &mut [f32]| saved.normalizer.pixels(pixels, input);
    let (learned, area) = on_the_glasses(&saved.model, &saved.params, prepare, 40);
    let initial = Params::initial(saved.model.table.clone(), Init::He, 1);
    let (before, _) = on_the_glasses(&saved.model, &initial, prepare, 40);
    println!("evidence on the glasses: {learned:.3} after training, {before:.3} before, area {area:.3}");
    assert!(learned >= 2.0 * area && learned >= 1.3 * before, "{learned} {before} {area}");
}

#[test]
fn where_glasses_are_is_known_for_faces_that_have_some_and_only_there_pixels_differ() {
    for row in 0..6 {
        let opaque = faces::eyewear(7, row, 48);
        assert_eq!(opaque.len(), 48 * 48);
        assert_eq!(opaque.iter().any(|&alpha| alpha > 0), row % 2 == 1, "row {row}");
        if row % 2 == 1 {
            let rows: Vec<usize> =
                (0..48).filter(|y| opaque[y * 48..][..48].iter().any(|&alpha| alpha >= 64)).collect();
            assert!(rows[0] > 8 && rows[rows.len() - 1] < 38, "glasses sit on eyes: {rows:?}");
        }
    }
}

#[test]
fn predict_writes_a_map_for_each_picture_on_any_number_of_ranks() {
    let dir = crate::fixtures::faces();
    glasses(&words("--data faces.h5 --model tiny.toml --epochs 1 --out run"), dir.path()).success();
    let folder = dir.path().join("pictures/more");
    std::fs::create_dir_all(&folder).unwrap();
    for row in 0..5 {
        let (pixels, _) = faces::draw(9, row, 30);
        image::RgbImage::from_raw(30, 30, pixels).unwrap().save(folder.join(format!("{row}.png"))).unwrap();
    }
    let plain = glasses(&words("predict --model run/model.h5 pictures"), dir.path()).success();
    let alone = glasses(&words("predict --model run/model.h5 --explain maps pictures"), dir.path()).success();
    assert_eq!(alone.stdout, plain.stdout, "maps change nothing of what is said");
    crate::run::mpirun(3, &words("predict --model run/model.h5 --explain three pictures"), dir.path()).success();
    for row in 0..5 {
        let read =
            |folder: &str| std::fs::read(dir.path().join(format!("{folder}/pictures-more-{row}.map.png"))).unwrap();
        assert_eq!(read("maps"), read("three"));
        let map = image::load_from_memory(&read("maps")).unwrap().to_rgb8();
        assert!(map.width() >= 96 && map.width() == map.height());
        assert!(map.pixels().any(|p| p.0[0] != p.0[2]), "no place is lit");
    }
    let refused = glasses(&words("predict --model run/model.h5 --explain faces.h5 pictures"), dir.path()).failure();
    assert!(refused.contains("create the folder faces.h5"), "{refused}");
    assert!(Path::new(&dir.path().join("maps")).is_dir());
}
