//! The kernels of normalisations, of channel scaling and of adaptive pools against plain loops, on every instruction set: the same bits.

use glasses::kernels::{
    self, AdaptiveShape, GroupNormShape, Isa, NormBackward, NormForward, group_norm_backward, group_norm_forward,
    layer_norm_backward, layer_norm_forward,
};

use crate::golden::assert_close;
use crate::kernels::numbers;

const CHANNELS: [usize; 12] = [1, 2, 3, 7, 8, 15, 16, 17, 33, 64, 100, 2048];

/// Runs `work` on every instruction set: the same bits as the scalar one's, which it gives.
#[track_caller]
fn same_everywhere(what: &str, work: impl Fn() -> Vec<Vec<f32>>) -> Vec<Vec<f32>> {
    let scalar = Isa::Scalar.with(&work);
    for isa in Isa::available() {
        let found = isa.with(&work);
        for (found, scalar) in found.iter().zip(&scalar) {
            let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(found), bits(scalar), "{what} on {}", isa.name());
        }
    }
    scalar
}

/// What a normalisation reads.
struct Given {
    input: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    d_output: Vec<f32>,
}

impl Given {
    /// Values that lie far from zero, as their mean does.
    fn new(values: usize, channels: usize) -> Given {
        let input = numbers(3, values, 2.0).iter().map(|value| value + 5.0).collect();
        Given {
            input,
            weight: numbers(4, channels, 1.0),
            bias: numbers(5, channels, 1.0),
            d_output: numbers(6, values, 1.0),
        }
    }

    /// Forward and backward of groups of places: of each, mean and variance in f64. Output, and the gradients of input, weight, bias.
    fn plain(&self, channels: usize, groups: &[Vec<usize>], eps: f64) -> [Vec<f64>; 4] {
        let Given { input, weight, bias, d_output } = self;
        let at = |values: &[f32], place: usize| f64::from(values[place]);
        let (mut output, mut d_input) = (vec![0.0; input.len()], vec![0.0; input.len()]);
        let (mut d_weight, mut d_bias) = (vec![0.0; channels], vec![0.0; channels]);
        for group in groups {
            let count = group.len() as f64;
            let mean = group.iter().map(|&place| at(input, place)).sum::<f64>() / count;
            let variance = group.iter().map(|&place| (at(input, place) - mean).powi(2)).sum::<f64>() / count;
            let inverse = 1.0 / (variance + eps).sqrt();
            let normal = |place: usize| (at(input, place) - mean) * inverse;
            let d_normal = |place: usize| at(d_output, place) * at(weight, place % channels);
            let sum = group.iter().map(|&place| d_normal(place)).sum::<f64>() / count;
            let product = group.iter().map(|&place| d_normal(place) * normal(place)).sum::<f64>() / count;
            for &place in group {
                let channel = place % channels;
                output[place] = normal(place) * at(weight, channel) + at(bias, channel);
                d_input[place] = inverse * (d_normal(place) - sum - normal(place) * product);
                d_weight[channel] += at(d_output, place) * normal(place);
                d_bias[channel] += at(d_output, place);
            }
        }
        [output, d_input, d_weight, d_bias]
    }

    /// The same by a kernel on every instruction set: all at once, and each of the two gradients by itself.
    fn check(
        &self,
        what: &str,
        want: [Vec<f64>; 4],
        scratch: usize,
        forward: impl Fn(NormForward<'_>),
        backward: impl Fn(NormBackward<'_>),
    ) {
        let Given { input, weight, bias, d_output } = self;
        let found = same_everywhere(what, || {
            let mut scratch = vec![f32::NAN; scratch];
            let mut output = vec![f32::NAN; input.len()];
            forward(NormForward { input, weight, bias, output: &mut output, scratch: &mut scratch });
            let (mut d_input, mut d_weight, mut d_bias) =
                (vec![f32::NAN; input.len()], vec![f32::NAN; weight.len()], vec![f32::NAN; weight.len()]);
            let mut run = |d_input: Option<&mut [f32]>, d_params: Option<[&mut [f32]; 2]>, accumulate: bool| {
                let scratch = &mut scratch[..];
                backward(NormBackward { input, weight, d_output, d_input, d_params, accumulate, scratch });
            };
            run(Some(&mut d_input), Some([&mut d_weight, &mut d_bias]), false);
            let once = [d_input.clone(), d_weight.clone(), d_bias.clone()];
            d_input.fill(f32::NAN);
            run(None, Some([&mut d_weight, &mut d_bias]), false);
            run(Some(&mut d_input), None, false);
            assert!(once == [d_input.clone(), d_weight.clone(), d_bias.clone()], "{what}: one gradient by itself");
            run(None, Some([&mut d_weight, &mut d_bias]), true);
            let [d_input, one_weight, one_bias] = once;
            vec![output, d_input, one_weight, one_bias, d_weight, d_bias]
        });
        for (name, found, want) in [
            ("output", &found[0], &want[0]),
            ("d_input", &found[1], &want[1]),
            ("d_weight", &found[2], &want[2]),
            ("d_bias", &found[3], &want[3]),
        ] {
            let want: Vec<f32> = want.iter().map(|value| *value as f32).collect();
            assert_close(found, &want, 4e-6 * (input.len() as f32).sqrt(), &format!("{what}: {name}"));
        }
        for (once, twice) in [(2, 4), (3, 5)] {
            let want: Vec<f32> = found[once].iter().map(|value| 2.0 * value).collect();
            assert_close(&found[twice], &want, 1e-5, &format!("{what}: added to"));
        }
    }
}

#[test]
fn layer_norms_are_those_of_plain_loops_on_every_instruction_set() {
    for channels in CHANNELS {
        for lines in [1, 5, 24] {
            let given = Given::new(lines * channels, channels);
            let groups: Vec<Vec<usize>> =
                (0..lines).map(|line| (line * channels..(line + 1) * channels).collect()).collect();
            // One value alone is its own mean: what is left are roundings.
            let eps = if channels == 1 { 1.0 } else { 1e-5 };
            let want = given.plain(channels, &groups, eps);
            let what = format!("{lines} lines of {channels}");
            given.check(&what, want, 0, |pass| layer_norm_forward(eps, pass), |pass| layer_norm_backward(eps, pass));
        }
    }
}

#[test]
fn group_norms_are_those_of_plain_loops_on_every_instruction_set() {
    for channels in CHANNELS {
        for groups in [1, 2, 3, 4, 8, channels] {
            for (pixels, images) in [(1, 2), (6, 1), (35, 3)] {
                if channels % groups > 0 || channels * pixels * images > 80_000 {
                    continue;
                }
                let eps = if channels * pixels == groups { 1.0 } else { 1e-3 };
                let shape = GroupNormShape { pixels, channels, groups, eps };
                let given = Given::new(images * pixels * channels, channels);
                let size = channels / groups;
                let places = |image: usize, group: usize| {
                    let place = move |pixel: usize, channel: usize| (image * pixels + pixel) * channels + channel;
                    (0..pixels)
                        .flat_map(move |p| (group * size..(group + 1) * size).map(move |c| place(p, c)))
                        .collect()
                };
                let all = (0..images).flat_map(|image| (0..groups).map(move |group| places(image, group)));
                let want = given.plain(channels, &all.collect::<Vec<_>>(), eps);
                given.check(
                    &format!("{shape:?} x {images}"),
                    want,
                    shape.scratch(),
                    |pass| group_norm_forward(&shape, pass),
                    |pass| group_norm_backward(&shape, pass),
                );
            }
        }
    }
}

#[test]
fn scaling_is_that_of_plain_loops_on_every_instruction_set() {
    for channels in CHANNELS {
        for (pixels, rows) in [(1, 3), (7, 2), (64, 1)] {
            let values = rows * pixels * channels;
            let (map, d_output) = (numbers(1, values, 1.0), numbers(2, values, 1.0));
            let (factors, before) = (numbers(3, rows * channels, 1.0), numbers(4, values, 1.0));
            let found = same_everywhere(&format!("{rows} x {pixels} x {channels}"), || {
                let (mut output, mut d_map) = (vec![f32::NAN; values], vec![f32::NAN; values]);
                let mut d_factors = vec![f32::NAN; rows * channels];
                kernels::scale_forward(channels, &map, &factors, &mut output);
                kernels::scale_backward_map(channels, &factors, &d_output, &mut d_map, false);
                kernels::scale_backward_factors(channels, &map, &d_output, &mut d_factors, false);
                let (mut added_map, mut added_factors) = (before.clone(), before[..rows * channels].to_vec());
                kernels::scale_backward_map(channels, &factors, &d_output, &mut added_map, true);
                kernels::scale_backward_factors(channels, &map, &d_output, &mut added_factors, true);
                vec![output, d_map, d_factors, added_map, added_factors]
            });
            for row in 0..rows {
                for channel in 0..channels {
                    let (factor, mut sum) = (factors[row * channels + channel], 0.0f32);
                    for pixel in 0..pixels {
                        let at = (row * pixels + pixel) * channels + channel;
                        assert_eq!([found[0][at], found[1][at]], [map[at] * factor, d_output[at] * factor]);
                        assert_eq!(found[3][at], before[at] + d_output[at] * factor);
                        sum = map[at].mul_add(d_output[at], sum);
                    }
                    let at = row * channels + channel;
                    assert_eq!([found[2][at], found[4][at]], [sum, before[at] + sum]);
                }
            }
        }
    }
}

#[test]
fn adaptive_pools_are_those_of_plain_loops_on_every_instruction_set() {
    for channels in [1, 3, 8, 17, 64] {
        for ([h_in, w_in], [h_out, w_out]) in [([7, 5], [3, 2]), ([8, 6], [4, 3]), ([3, 4], [5, 7]), ([6, 1], [1, 1])] {
            let shape = AdaptiveShape { h_in, w_in, channels, h_out, w_out };
            let (input, d_output) = (numbers(1, 2 * shape.input_len(), 1.0), numbers(2, 2 * shape.output_len(), 1.0));
            let found = same_everywhere(&format!("{shape:?}"), || {
                let (mut output, mut d_input) = (vec![f32::NAN; d_output.len()], vec![f32::NAN; input.len()]);
                kernels::adaptive_avgpool_forward(&shape, 2, &input, &mut output);
                kernels::adaptive_avgpool_backward(&shape, 2, &d_output, &mut d_input);
                vec![output, d_input]
            });
            let (mut output, mut d_input) = (vec![0.0; d_output.len()], vec![0.0; input.len()]);
            for at in 0..d_output.len() {
                let (channel, x, y, image) = (
                    at % channels,
                    at / channels % w_out,
                    at / channels / w_out % h_out,
                    at / channels / w_out / h_out,
                );
                let rows = y * h_in / h_out..((y + 1) * h_in).div_ceil(h_out);
                let columns = x * w_in / w_out..((x + 1) * w_in).div_ceil(w_out);
                let count = (rows.len() * columns.len()) as f32;
                for (row, column) in rows.flat_map(|row| columns.clone().map(move |column| (row, column))) {
                    let place = ((image * h_in + row) * w_in + column) * channels + channel;
                    output[at] += input[place];
                    d_input[place] += d_output[at] / count;
                }
                output[at] /= count;
            }
            assert_eq!(found, [output, d_input], "{shape:?}");
        }
    }
}
