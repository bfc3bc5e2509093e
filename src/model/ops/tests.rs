//! Texts of operations, read and refused.

use super::*;

#[test]
fn layers_print_as_they_were_written() {
    for text in [
        "conv 5x5x16",
        "conv 3x5x8 stride 2 pad 1",
        "conv 3x3x8 stride 2 pad 1 groups 4 dilation 2 bias no",
        "conv 3x3x8 bias yes",
        "depthwise 3x3",
        "depthwise 5x3 stride 2 pad 2 x 3 dilation 2 bias no",
        "maxpool 2",
        "maxpool 3 stride 2 pad same",
        "avgpool 3x2 stride 2 pad 1",
        "global_avgpool",
        "flatten",
        "dense 128",
        "dense classes",
        "relu",
        "relu6",
        "hard_swish",
        "hard_sigmoid",
        "silu",
        "gelu",
        "gelu tanh",
        "global_maxpool",
        "leaky_relu",
        "leaky_relu 0.2",
        "sigmoid",
        "tanh",
        "batch_norm",
        "batch_norm rows 32 eps 0.001 momentum 0.01 scale no",
        "batch_norm rows all",
        "dropout 0.1",
        "drop_path 0.1",
        "adaptive_avgpool 7",
        "adaptive_avgpool 7x5",
        "group_norm 8",
        "group_norm 8 eps 1e-3",
        "layer_norm",
        "layer_norm eps 1e-6",
        "softmax",
    ] {
        assert_eq!(text.parse::<Op>().unwrap().to_string(), text);
    }
}

#[test]
fn a_convolution_has_a_bias_unless_that_is_written_or_a_norm_follows() {
    let image = Shape::image([8, 8, 6]);
    for (text, before_norm, want) in [
        ("conv 3x3x4", false, vec![vec![3, 3, 6, 4], vec![4]]),
        ("conv 3x3x4", true, vec![vec![3, 3, 6, 4]]),
        ("conv 3x3x4 bias yes", true, vec![vec![3, 3, 6, 4], vec![4]]),
        ("conv 3x3x4 groups 2 bias no", false, vec![vec![3, 3, 3, 4]]),
        ("depthwise 5x3 x 2", false, vec![vec![5, 3, 1, 12], vec![12]]),
        ("depthwise 5x3", true, vec![vec![5, 3, 1, 6]]),
        ("depthwise 5x3 bias no", false, vec![vec![5, 3, 1, 6]]),
        ("relu", true, vec![]),
    ] {
        let mut op: Op = text.parse().unwrap();
        op.decide(before_norm);
        let output = op.output(&[&image], 1).unwrap();
        let found: Vec<Vec<usize>> =
            op.parameters(&image, &output).into_iter().map(|parameter| parameter.shape).collect();
        assert_eq!(found, want, "{text}, {before_norm}");
        let weights = want.first().map_or(0, |shape| shape.iter().product());
        assert_eq!(op.flops(&image, &output), 2 * 64 * weights as u64, "{text}");
    }
}

#[test]
fn channels_that_cannot_be_divided_are_refused() {
    for (text, want) in [
        ("conv 3x3x4 groups 4", "4 groups of 6 input channels: 4 does not divide 6"),
        ("conv 3x3x4 groups 3", "3 groups of 4 output channels: 3 does not divide 4"),
        ("depthwise 3x3 x 65535", "6 channels x 65535 are more than 65535"),
        ("depthwise 3x3 pad 0 dilation 4", "where F = (3 - 1)*4 + 1"),
    ] {
        let op: Op = text.parse().unwrap();
        let refused = op.output(&[&Shape::image([8, 8, 6])], 1).unwrap_err();
        assert!(refused.contains(want), "{text}: {refused}");
    }
}

#[test]
fn a_layer_that_cannot_be_is_refused_with_what_was_expected() {
    for (text, want) in [
        ("covn 3x3x16", "did you mean 'conv'?"),
        ("conv 3x3", "height x width x channels"),
        ("conv 3x0x4", "height x width x channels"),
        ("conv 3x3x4 stride 0", "stride 2"),
        ("conv 3x3x4 pad -1", "pad same"),
        ("conv 3x3x4 strid 2", "'stride N'"),
        ("conv 3x3x4 groups 0", "'groups 2'"),
        ("conv 3x3x4 groups", "'groups N'"),
        ("conv 3x3x4 dilation 0", "'dilation 2'"),
        ("conv 3x3x4 dilation 65536", "65536 is too large"),
        ("conv 3x3x4 bias maybe", "'bias yes' or 'bias no', found 'bias maybe'"),
        ("conv 3x3x4 x 2", "'groups N'"),
        ("depthwise", "'depthwise 3x3'"),
        ("depthwise 3x3x4", "height x width of a window"),
        ("depthwise 3x3 x 0", "'x 2'"),
        ("depthwise 3x3 groups 2", "'x N'"),
        ("maxpool 2 dilation 2", "'stride N'"),
        ("dropout 1", "below 1"),
        ("dropout nan", "below 1"),
        ("dense", "dense 128"),
        ("relu 3", "nothing after"),
        ("batch_norm rows 0", "a number of rows"),
        ("batch_norm eps 0", "above 0"),
        ("batch_norm eps nan", "above 0"),
        ("batch_norm momentum 2", "at most 1"),
        ("batch_norm 3", "'scale no', found '3'"),
        ("maxpool 3x2", "not square"),
        ("dense 100000", "100000 is too large: at most 65535 fits"),
        ("conv 3x3x100000", "100000 is too large"),
        ("avgpool 3 stride 65536", "65536 is too large"),
        ("maxpool 70000", "70000 is too large"),
        ("conv 3x3x4 pad 99999999999999999999999999", "is too large"),
        ("", "unknown layer"),
        ("add", "residual = ["),
        ("concat", "branches = [["),
        ("scale", "scale = ["),
        ("drop_path 1", "below 1"),
        ("adaptive_avgpool", "'adaptive_avgpool 7' or"),
        ("adaptive_avgpool 0", "the output's size"),
        ("adaptive_avgpool 3 stride 2", "the output's size"),
        ("adaptive_avgpool 3x70000", "70000 is too large"),
        ("group_norm", "a number of groups"),
        ("group_norm 0", "a number of groups"),
        ("group_norm 8 eps", "'eps 1e-5' or nothing, found 'eps'"),
        ("group_norm 8 eps 0", "above 0"),
        ("layer_norm eps nan", "above 0"),
        ("layer_norm 8", "found '8'"),
    ] {
        let refused = text.parse::<Op>().unwrap_err();
        assert!(refused.contains(want), "{text}: {refused}");
    }
}
