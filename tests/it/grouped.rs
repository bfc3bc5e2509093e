//! Convolutions with groups, with dilated windows, without a bias, and of every channel by itself: as `kernels.rs` checks the others.

use glasses::kernels::{ConvShape, Padding, Window};
use glasses::model::ops::work::Map;
use glasses::model::ops::{ConvWork, DepthwiseWork, GemmConv, PatchConv};

use crate::kernels::{Given, numbers};
use crate::plain::FusedConv;

/// Windows of these sizes over images from one pixel on, wherever they fit.
fn windows(sizes: &[[usize; 2]], dilations: &[usize]) -> Vec<([usize; 2], Window)> {
    let mut found = Vec::new();
    for &[kh, kw] in sizes {
        for (&dilation, stride) in
            dilations.iter().flat_map(|dilation| [1, 2, 3, 65535].map(|stride| (dilation, stride)))
        {
            for padding in [Padding::Same, Padding::Pixels(0), Padding::Pixels(1), Padding::Pixels(3)] {
                for image in [[1, 1], [5, 7], [8, 6], [9, 14]] {
                    let window = Window { kh, kw, stride, dilation, padding };
                    if ConvShape::new([image[0], image[1], 1], window, 1).is_ok() {
                        found.push((image, window));
                    }
                }
            }
        }
    }
    found
}

/// Two rows of a convolution, on the work that the direct kernels have for it, and by the second engine.
fn check(seed: u64, shape: ConvShape, has_bias: bool) {
    let weights = shape.weight_len();
    let (weight, bias) = (0..weights, weights..weights + if has_bias { shape.c_out } else { 0 });
    let mut given = Given::new(seed, &[2], [weights, shape.c_out, shape.input_len(), shape.output_len()]);
    given.params.truncate(bias.end);
    let want = FusedConv { shape, rectifier: None, pool: false }.run(&given.params, &given.input, &given.d_output);
    let what = || format!("{shape:?}, bias {has_bias}");
    let layer: Box<dyn Map> = if shape.is_plain() {
        Box::new(ConvWork::new(shape, weight.clone(), bias.clone(), true))
    } else if shape.groups == shape.c_in {
        Box::new(DepthwiseWork { shape, weight: weight.clone(), bias: bias.clone() })
    } else {
        Box::new(PatchConv { shape, weight: weight.clone(), bias: bias.clone(), wants_d_input: true })
    };
    given.check(&*layer, &want, &what);
    given.check_roughly(&GemmConv { shape, weight, bias }, &want, &|| format!("gemm {}", what()));
}

#[test]
fn groups_and_dilated_windows_agree_with_the_plain_loops_on_every_instruction_set() {
    // Groups, and the channels of each.
    let channels = [[1, 3, 5], [2, 2, 9], [4, 1, 3], [3, 5, 1], [2, 17, 16], [1, 1, 33], [8, 4, 4]];
    let mut turn = 0;
    for ([h, w], window) in windows(&[[1, 1], [2, 2], [3, 3], [4, 3], [5, 5]], &[1, 2, 3]) {
        for _ in 0..2 {
            turn += 1;
            let [groups, inputs, outputs] = channels[turn % channels.len()];
            let shape = ConvShape::new([h, w, groups * inputs], window, groups * outputs).unwrap();
            let shape = shape.grouped(groups).unwrap();
            if shape.groups < shape.c_in || shape.is_plain() {
                check(turn as u64, shape, turn % 3 > 0);
            }
        }
    }
    assert!(turn > 400, "{turn} shapes");
}

#[test]
fn more_windows_than_are_worked_on_at_once_agree_too() {
    for (dilation, groups) in [(2, 1), (1, 3), (2, 2)] {
        let window = Window { kh: 3, kw: 3, stride: 1, dilation, padding: Padding::Same };
        let shape = ConvShape::new([24, 25, 60], window, 12).unwrap().grouped(groups).unwrap();
        check(5, shape, true);
    }
}

#[test]
fn plain_convolutions_without_bias_agree_with_the_plain_loops() {
    for (turn, (c_in, c_out)) in [(1, 1), (3, 5), (16, 16), (17, 24), (8, 33)].into_iter().enumerate() {
        for (kh, stride) in [(1, 1), (3, 1), (3, 2), (5, 1)] {
            let window = Window { kh, kw: kh, stride, dilation: 1, padding: Padding::Same };
            check(turn as u64, ConvShape::new([16, 16, c_in], window, c_out).unwrap(), false);
        }
    }
}

#[test]
fn channels_by_themselves_agree_with_the_plain_loops_on_every_instruction_set() {
    let channels: Vec<usize> = (1..=17).chain([24, 31, 32, 33, 48, 100]).collect();
    let mut turn = 0;
    let sizes = [[1, 1], [3, 3], [5, 5], [7, 7], [2, 4], [4, 3], [1, 9], [3, 1]];
    for ([h, w], window) in windows(&sizes, &[1, 2, 3]) {
        turn += 1;
        let (c_in, multiplier) = (channels[turn % channels.len()], [1, 1, 2, 1, 3][turn % 5]);
        let shape = ConvShape::new([h, w, c_in], window, c_in * multiplier).unwrap().grouped(c_in).unwrap();
        if !shape.is_plain() {
            check(turn as u64, shape, turn % 3 > 0);
        }
    }
    assert!(turn > 400, "{turn} shapes");
}

#[test]
fn many_channels_by_themselves_and_wide_rows_agree_too() {
    for (h, w, c, k, stride) in [(7, 7, 960, 3, 1), (4, 4, 2048, 5, 1), (33, 70, 16, 3, 2), (40, 41, 20, 5, 1)] {
        let window = Window { kh: k, kw: k, stride, dilation: 1, padding: Padding::Same };
        let shape = ConvShape::new([h, w, c], window, c).unwrap().grouped(c).unwrap();
        check_by_itself(shape);
    }
}

/// As [`check`], without the second engine, for which so many groups are slow.
fn check_by_itself(shape: ConvShape) {
    let weights = shape.weight_len();
    let mut given = Given::new(3, &[1], [weights, shape.c_out, shape.input_len(), shape.output_len()]);
    given.params = numbers(4, weights + shape.c_out, 0.3);
    let want = FusedConv { shape, rectifier: None, pool: false }.run(&given.params, &given.input, &given.d_output);
    let layer = DepthwiseWork { shape, weight: 0..weights, bias: weights..weights + shape.c_out };
    given.check(&layer, &want, &|| format!("{shape:?}"));
}
