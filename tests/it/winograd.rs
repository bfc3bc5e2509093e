//! 3×3 windows that are done by tiles: the plain loops of `tiles.rs` bit for bit, the second engine within rounding.

use glasses::kernels::{ConvBlock, ConvShape, Padding, Window};
use glasses::model::{Init, Params};

use crate::gradients;
use crate::kernels::{Given, RECTIFIERS, Stack, even};
use crate::plain::FusedConv;
use crate::tiles;

const PADDINGS: [Padding; 4] = [Padding::Same, Padding::Pixels(0), Padding::Pixels(1), Padding::Pixels(2)];

fn shape(image: [usize; 3], padding: Padding, c_out: usize) -> ConvShape {
    ConvShape::new(image, Window { kh: 3, kw: 3, stride: 1, dilation: 1, padding }, c_out).unwrap()
}

/// Whole tiles and partial ones, more tiles than are worked on together.
const IMAGES: [[usize; 2]; 7] = [[16, 16], [13, 15], [14, 18], [11, 17], [22, 21], [19, 40], [35, 38]];

#[test]
fn every_instruction_set_agrees_bit_for_bit_with_the_plain_loops_on_tiles() {
    let channels = [[16, 16], [16, 24], [24, 16], [16, 40], [32, 24], [40, 16], [24, 48], [64, 16], [16, 32]];
    let (mut turn, mut pooled) = (0, 0);
    for ([h, w], padding) in IMAGES.iter().flat_map(|image| PADDINGS.iter().map(move |padding| (*image, *padding))) {
        for _ in 0..2 {
            turn += 1;
            let [c_in, c_out] = channels[turn % channels.len()];
            let shape = shape([h, w, c_in], padding, c_out);
            assert!(tiles::apply_to_weights(&shape), "{shape:?}");
            for (rectifier, pool) in [(None, false), (RECTIFIERS[turn / 2 % 3], even(&shape))] {
                let block = FusedConv { shape, rectifier, pool };
                let sizes = [shape.weight_len(), c_out, shape.input_len(), block.output_len()];
                let mut given = Given::new(turn as u64, &[2], sizes);
                // The weights' gradients are sums over hundreds of pixels: they, too, stay near 1.
                let scale = 4.0 / (shape.h_out * shape.w_out) as f32;
                given.d_output.iter_mut().for_each(|value| *value *= scale.sqrt());
                given.check_block(&block);
                pooled += usize::from(pool);
            }
        }
    }
    assert!(pooled > 10, "{pooled} pooled");
}

#[test]
fn connected_convolutions_by_tiles_give_the_bits_of_unconnected_ones() {
    let mut turn = 0;
    for (lower, upper) in PADDINGS.iter().flat_map(|lower| PADDINGS.iter().map(move |upper| (*lower, *upper))) {
        for [rectifier, other] in RECTIFIERS.iter().flat_map(|a| [[*a, None], [*a, RECTIFIERS[1]]]) {
            turn += 1;
            // One of the two may go the other way.
            let channels = [[3, 16, 24], [16, 16, 16], [16, 24, 5], [16, 16, 32]][turn % 4];
            let below = shape([26, 30, channels[0]], lower, channels[1]);
            let pools = [even(&below) && turn % 3 == 0, false];
            let half = if pools[0] { 2 } else { 1 };
            let above = shape([below.h_out / half, below.w_out / half, channels[1]], upper, channels[2]);
            let pools = [pools[0], even(&above) && turn % 5 == 0];
            let stack = Stack { shapes: [below, above], rectifiers: [rectifier, other], pools, wants_d_input: true };
            let output = above.output_len() / if pools[1] { 4 } else { 1 };
            let weights = below.weight_len() + below.c_out + above.weight_len();
            stack.check(&Given::new(turn as u64, &[2], [weights, above.c_out, below.input_len(), output]));
        }
    }
}

#[test]
fn tiles_backward_are_the_slope_of_tiles_forward() {
    // Smooth: among so many pixels there would be kinks everywhere.
    let layers = ["conv 3x3x16", "tanh", "conv 3x3x24 pad 0", "tanh", "global_avgpool", "dense classes"];
    let model = gradients::model(&layers, [16, 18, 16], false);
    let mut params = Params::initial(model.table.clone(), Init::He, 11);
    gradients::check(&model, &mut params, 3, 1e-3);
}

#[test]
fn which_convolutions_are_done_by_tiles_is_a_matter_of_their_shape() {
    let mut by_tiles = 0;
    for ([h, w], padding) in [[7, 7], [9, 12], [12, 12], [13, 16], [17, 13], [20, 20], [80, 80]]
        .iter()
        .flat_map(|image| PADDINGS.iter().map(move |padding| (*image, *padding)))
    {
        for [c_in, c_out] in [[3, 16], [8, 16], [16, 12], [16, 16], [64, 40], [128, 128], [136, 128]] {
            let shape = shape([h, w, c_in], padding, c_out);
            let block = ConvBlock::new(shape);
            assert_eq!(block.is_winograd(), tiles::apply(&shape), "{shape:?}");
            assert_eq!(block.weights_are_winograd(), tiles::apply_to_weights(&shape), "{shape:?}");
            by_tiles += usize::from(block.is_winograd());
        }
    }
    assert!(by_tiles > 30, "{by_tiles}");
}
