"""Makes layers.h5: inputs, outputs and gradients of every layer, the loss, the optimizers and clipping, as PyTorch has them.

    cd tests/golden && python make_layers.py          # torch 2.15.0, numpy 2.4.6, h5py 3.16.0

Inputs are f32 numbers of the Philox streams of src/kernels/rng.rs (seed 7), the work is done in f64, results are stored as f32.
Gradients are sums over the rows of the batch. The same versions make the same file, byte for byte.

    /<case>   attributes layer (text), input_shape [h, w, c] (a vector of d is [1, 1, d]), batch
              datasets input, [weight, bias,] output, d_output, d_input, [d_weight, d_bias]
    /loss     logits [b, c], labels, d_logits = softmax - onehot (f32); attributes loss_sum (f64), correct
    /optim/{sgd,momentum,nesterov,adam,adamw}   params [64], gradients [5, 64], after [5, 64] (the params after each step);
              attributes lr, momentum, weight_decay, beta1, beta2, eps (0 where unused). Adam's decay is L2, AdamW's decoupled
    /clip     gradient, by_value (0.5), by_norm (1.0); small, small_by_norm (norm below 1: unchanged)
"""
import h5py
import numpy as np
import torch

import philox
from torch_layers import Layer

SEED = 7

# name: (layer, [h, w, c] or [d], batch).
CASES = {
    "conv_1x1_on_1x1": ("conv 1x1x3", [1, 1, 2], 1),
    "conv_3x3_on_1x1": ("conv 3x3x4", [1, 1, 3], 2),
    "conv_3x3_c_in_1": ("conv 3x3x8", [6, 6, 1], 2),
    "conv_3x3_on_7x5": ("conv 3x3x4", [7, 5, 3], 3),
    "conv_3x3_deep": ("conv 3x3x33", [9, 11, 16], 2),
    "conv_3x3_pad0": ("conv 3x3x4 pad 0", [7, 5, 3], 2),
    "conv_3x3_pad2": ("conv 3x3x4 pad 2", [4, 5, 2], 2),
    "conv_3x3_stride2_same": ("conv 3x3x4 stride 2 pad same", [8, 8, 3], 2),
    "conv_3x3_stride2_same_odd": ("conv 3x3x4 stride 2 pad same", [7, 5, 3], 2),
    "conv_3x3_stride2_pad1": ("conv 3x3x6 stride 2 pad 1", [7, 5, 3], 2),
    "conv_3x3_stride3_same": ("conv 3x3x5 stride 3 pad same", [7, 11, 2], 2),
    "conv_2x2_stride3_pad0": ("conv 2x2x5 stride 3 pad 0", [8, 5, 3], 2),
    "conv_1x1": ("conv 1x1x9", [5, 4, 7], 2),
    "conv_1x1_stride2_same": ("conv 1x1x5 stride 2 pad same", [5, 4, 3], 2),
    "conv_1x1_stride2_pad0": ("conv 1x1x5 stride 2 pad 0", [5, 7, 3], 2),
    "conv_2x2_same": ("conv 2x2x4", [5, 6, 3], 2),
    "conv_4x4_same": ("conv 4x4x4", [6, 5, 2], 1),
    "conv_4x2_stride2_same": ("conv 4x2x3 stride 2 pad same", [9, 6, 2], 2),
    "conv_5x3_same": ("conv 5x3x4", [6, 7, 3], 2),
    "conv_3x5_same": ("conv 3x5x4", [6, 7, 3], 2),
    "conv_5x3_stride2_pad1": ("conv 5x3x4 stride 2 pad 1", [7, 5, 3], 2),
    "conv_5x5_same": ("conv 5x5x16", [10, 9, 3], 2),
    "conv_5x5_on_3x2": ("conv 5x5x4", [3, 2, 2], 2),
    "conv_7x7_stride2_same": ("conv 7x7x8 stride 2 pad same", [14, 13, 3], 2),
    "conv_7x7_stride2_pad3": ("conv 7x7x5 stride 2 pad 3", [13, 11, 3], 1),
    "maxpool_2": ("maxpool 2", [6, 8, 3], 3),
    "maxpool_2_c16": ("maxpool 2", [4, 4, 17], 2),
    "maxpool_2_on_2x2": ("maxpool 2", [2, 2, 1], 1),
    "maxpool_1": ("maxpool 1", [1, 1, 4], 2),
    "maxpool_3_stride2": ("maxpool 3 stride 2", [7, 5, 5], 2),
    "maxpool_3_stride1": ("maxpool 3 stride 1", [5, 6, 3], 2),
    "maxpool_2_stride3": ("maxpool 2 stride 3", [8, 5, 3], 2),
    "maxpool_3_stride2_pad1": ("maxpool 3 stride 2 pad 1", [7, 5, 9], 2),
    "maxpool_3_pad1_on_1x1": ("maxpool 3 stride 2 pad 1", [1, 1, 3], 2),
    "avgpool_2": ("avgpool 2", [6, 8, 3], 3),
    "avgpool_3_stride2": ("avgpool 3 stride 2", [7, 5, 17], 2),
    "avgpool_2_stride3": ("avgpool 2 stride 3", [8, 5, 3], 2),
    "avgpool_3_stride2_pad1": ("avgpool 3 stride 2 pad 1", [7, 5, 9], 2),
    "avgpool_3_pad1_on_1x1": ("avgpool 3 stride 2 pad 1", [1, 1, 3], 2),
    "global_avgpool": ("global_avgpool", [7, 5, 9], 3),
    "global_avgpool_on_1x1": ("global_avgpool", [1, 1, 4], 2),
    "dense_1_input": ("dense 5", [1], 2),
    "dense_deep": ("dense 40", [300], 3),
    "dense_long": ("dense 3", [2500], 2),
    "relu": ("relu", [5, 7, 3], 2),
    "relu_vector": ("relu", [37], 3),
    "leaky_relu": ("leaky_relu", [5, 7, 3], 2),
    "leaky_relu_02": ("leaky_relu 0.2", [5, 7, 3], 2),
    "sigmoid": ("sigmoid", [5, 7, 3], 2),
    "tanh": ("tanh", [5, 7, 3], 2),
}
for c_out in range(1, 18):  # every tail of an 8- and of a 16-lane kernel
    CASES[f"conv_3x3_c_out_{c_out:02}"] = (f"conv 3x3x{c_out}", [4, 5, 2], 1 + c_out % 3)
    CASES[f"dense_outputs_{c_out:02}"] = (f"dense {c_out}", [23], 1 + c_out % 3)
# 3x3 windows that glasses does by tiles (Winograd): whole ones and partial ones.
TILED = {
    "conv_3x3_tiles": ("conv 3x3x16", [14, 15, 16], 2),
    "conv_3x3_tiles_pad0": ("conv 3x3x24 pad 0", [18, 17, 16], 1),
    "conv_3x3_tiles_pad2": ("conv 3x3x16 pad 2", [12, 13, 24], 1),
}
CASES |= TILED
# Pixels too few for one more window.
CASES |= {
    "conv_3x3_stride2_pad1_floors": ("conv 3x3x6 stride 2 pad 1", [8, 6, 3], 2),
    "conv_2x2_stride3_pad0_floors": ("conv 2x2x5 stride 3 pad 0", [10, 9, 3], 2),
    "maxpool_2_floors": ("maxpool 2", [7, 9, 3], 2),
    "maxpool_3_stride2_pad1_floors": ("maxpool 3 stride 2 pad 1", [8, 6, 9], 2),
    "avgpool_3_stride2_floors": ("avgpool 3 stride 2", [8, 6, 4], 2),
}
CASES["relu6"] = ("relu6", [5, 7, 3], 2)
CASES |= {
    "hard_swish": ("hard_swish", [5, 7, 3], 2),
    "hard_sigmoid": ("hard_sigmoid", [5, 7, 3], 2),
    "silu": ("silu", [5, 7, 3], 2),
    "silu_vector": ("silu", [37], 3),
    "gelu": ("gelu", [5, 7, 3], 2),
    "gelu_tanh": ("gelu tanh", [5, 7, 3], 2),
    "global_maxpool": ("global_maxpool", [7, 5, 9], 3),
    "global_maxpool_on_1x1": ("global_maxpool", [1, 1, 4], 2),
}
# Groups, dilated windows, no bias, every channel by itself.
CASES |= {
    "conv_groups_2": ("conv 3x3x6 groups 2", [7, 5, 4], 2),
    "conv_groups_4_stride2": ("conv 3x3x8 stride 2 pad 1 groups 4 bias no", [7, 6, 12], 2),
    "conv_groups_17_each": ("conv 2x3x10 pad 0 groups 2", [5, 6, 34], 1),
    "conv_groups_64": ("conv 3x3x128 groups 64", [4, 5, 64], 1),
    "conv_groups_dilated": ("conv 3x3x9 pad 2 groups 3 dilation 2", [8, 7, 6], 2),
    "conv_dilation_2": ("conv 3x3x5 dilation 2", [7, 9, 3], 2),
    "conv_dilation_3_c1": ("conv 3x3x4 pad 3 dilation 3", [9, 8, 1], 2),
    "conv_dilation_2_stride2_same": ("conv 3x3x17 stride 2 dilation 2", [9, 8, 16], 1),
    "conv_dilation_2_stride2_pad0": ("conv 2x3x4 stride 2 pad 0 dilation 2 bias no", [9, 8, 3], 2),
    "conv_dilation_2_tiles": ("conv 3x3x16 dilation 2", [14, 15, 16], 1),
    "conv_no_bias": ("conv 3x3x5 bias no", [7, 5, 3], 2),
    "conv_no_bias_tiles": ("conv 3x3x16 bias no", [14, 15, 16], 1),
    "conv_bias_yes": ("conv 1x1x5 bias yes", [7, 5, 3], 2),
    "conv_by_itself": ("conv 3x3x6 stride 2 pad 1 groups 3", [8, 7, 3], 2),
    "depthwise_c1": ("depthwise 3x3", [6, 5, 1], 2),
    "depthwise_c3": ("depthwise 3x3 pad 1", [7, 5, 3], 2),
    "depthwise_c17_stride2": ("depthwise 3x3 stride 2", [8, 7, 17], 2),
    "depthwise_c17_stride2_pad1": ("depthwise 3x3 stride 2 pad 1 bias no", [9, 8, 17], 1),
    "depthwise_c64": ("depthwise 3x3 bias no", [7, 14, 64], 1),
    "depthwise_5x5_stride2_same": ("depthwise 5x5 stride 2", [10, 9, 33], 1),
    "depthwise_7x7": ("depthwise 7x7 pad 3", [7, 7, 24], 1),
    "depthwise_4x2_stride3_pad0": ("depthwise 4x2 stride 3 pad 0", [9, 8, 5], 2),
    "depthwise_on_1x1": ("depthwise 5x5", [1, 1, 9], 2),
    "depthwise_dilation_2": ("depthwise 3x3 pad 2 dilation 2", [9, 8, 12], 2),
    "depthwise_dilation_3_stride2": ("depthwise 3x3 stride 2 dilation 3", [11, 12, 8], 1),
    "depthwise_x2": ("depthwise 3x3 x 2", [5, 6, 5], 2),
    "depthwise_x3_stride2": ("depthwise 3x3 stride 2 pad 1 x 3 dilation 2 bias no", [8, 9, 11], 2),
}
CASES |= {
    "adaptive_avgpool_3": ("adaptive_avgpool 3", [7, 5, 9], 2),
    "adaptive_avgpool_2x4": ("adaptive_avgpool 2x4", [7, 9, 3], 3),
    "adaptive_avgpool_even": ("adaptive_avgpool 4x3", [8, 9, 17], 2),
    "adaptive_avgpool_grows": ("adaptive_avgpool 7x5", [3, 4, 5], 2),
    "adaptive_avgpool_1": ("adaptive_avgpool 1", [5, 6, 33], 2),
    "group_norm_1": ("group_norm 1", [5, 7, 3], 2),
    "group_norm_of_1_channel": ("group_norm 1", [4, 4, 1], 3),
    "group_norm_17": ("group_norm 17", [6, 5, 17], 2),
    "group_norm_3_of_33": ("group_norm 3", [5, 4, 33], 2),
    "group_norm_8_of_64": ("group_norm 8 eps 1e-3", [6, 7, 64], 2),
    "group_norm_2_of_128": ("group_norm 2", [3, 2, 128], 1),
    "group_norm_on_1x1": ("group_norm 2", [1, 1, 10], 3),
    "layer_norm": ("layer_norm", [5, 7, 3], 2),
    "layer_norm_c17": ("layer_norm eps 1e-6", [4, 3, 17], 2),
    "layer_norm_c64": ("layer_norm", [3, 5, 64], 2),
    "layer_norm_of_1_channel": ("layer_norm eps 0.01", [4, 4, 1], 2),
    "layer_norm_vector": ("layer_norm", [100], 3),
}


def normals(layer, row, shape, std=1.0):
    """f32 normals of one address, as an f64 tensor."""
    values = philox.Stream(SEED, philox.SYNTH, layer, 0, row).normal(int(np.prod(shape)), std)
    return torch.tensor(values.reshape(shape), dtype=torch.float64)


def store(group, **tensors):
    for name, tensor in tensors.items():
        group.create_dataset(name, data=np.asarray(tensor.detach(), dtype=np.float32), track_times=False)


def keep_clear_of_kinks(layer, x):
    """Moves what lies near 0 (rectifiers) away from it; a pool's windows must have one clear winner."""
    if layer.kind == "relu6":  # beyond 6, too
        x = x * 4.0
        x = torch.where((x - 6.0).abs() < 1e-2, torch.full_like(x, 6.0625), x).to(torch.float32).double()
    if layer.kind in ("hard_swish", "hard_sigmoid"):  # both kinks, and beyond
        x = (x * 4.0).to(torch.float32).double()
        return torch.where((x.abs() - 3.0).abs() < 1e-2, torch.full_like(x, 3.0625), x)
    if "relu" in layer.kind:
        return torch.where(x.abs() < 1e-2, torch.full_like(x, 0.0625), x)
    if layer.kind in ("sigmoid", "tanh", "silu", "gelu"):  # the tails too
        return (x * 4.0).to(torch.float32).double()
    if "maxpool" in layer.kind:
        for row in x:
            for plane in row.reshape(-1, row.shape[-1]).T:
                gaps = plane.sort().values.diff()
                assert gaps.numel() == 0 or gaps.min() > 1e-6, layer.text
    return x


def write_case(file, index, name, text, shape, batch):
    layer = Layer(text)
    x = keep_clear_of_kinks(layer, normals(index, 0, [batch, *shape])).requires_grad_()
    shapes, fan_in = layer.parameter_shapes(shape)
    scales = [fan_in**-0.5, 1.0] if shapes else []
    params = [normals(index, 1 + i, s, scale).requires_grad_() for i, (s, scale) in enumerate(zip(shapes, scales))]
    output = layer.forward(x, *params)
    # Sums over hundreds of pixels: the weights' gradients stay near 1.
    d_output = normals(index, 3, list(output.shape), 0.0625 if name in TILED else 1.0)
    output.backward(d_output)

    group = file.create_group(name)
    group.attrs["layer"] = text
    group.attrs["input_shape"] = np.array(shape if len(shape) == 3 else [1, 1, *shape], dtype=np.int64)
    group.attrs["batch"] = np.int64(batch)
    store(group, input=x, output=output, d_output=d_output, d_input=x.grad)
    for kind, param in zip(("weight", "bias"), params):
        store(group, **{kind: param, "d_" + kind: param.grad})


def write_loss(file):
    logits = normals(900, 0, [8, 5], 2.0)
    labels = torch.tensor([0, 1, 2, 3, 4, 2, 0, 3])
    logits[1] = torch.tensor([-500.0, 500.0, 0.0, 3.0, -1.0])  # certain and right: loss 0
    logits[5] = torch.tensor([500.0, 1.0, -500.0, 0.0, 2.0])  # certain and wrong: loss 1000
    logits[6] = torch.tensor([-500.0, -500.5, -501.0, -499.0, -502.0])  # all far below 0
    logits.requires_grad_()
    loss = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
    loss.backward()
    group = file.create_group("loss")
    store(group, logits=logits, d_logits=logits.grad)
    group.create_dataset("labels", data=labels.numpy().astype(np.int64), track_times=False)
    group.attrs["loss_sum"] = np.float64(loss.item())
    group.attrs["correct"] = np.int64((logits.argmax(1) == labels).sum())


def write_optim(file):
    optim, beta = torch.optim, dict(beta1=0.9, beta2=0.999, eps=1e-8)
    for name, make, settings in [
        ("sgd", optim.SGD, dict(lr=0.1, weight_decay=0.01)),
        ("momentum", optim.SGD, dict(lr=0.1, weight_decay=0.01, momentum=0.9)),
        ("nesterov", optim.SGD, dict(lr=0.1, weight_decay=0.01, momentum=0.9)),
        ("adam", optim.Adam, dict(lr=0.01, weight_decay=0.05, **beta)),
        ("adamw", optim.AdamW, dict(lr=0.01, weight_decay=0.05, **beta)),
    ]:
        arguments = {key: value for key, value in settings.items() if not key.startswith("beta")}
        if "beta1" in settings:
            arguments["betas"] = (settings["beta1"], settings["beta2"])
        if name == "nesterov":
            arguments["nesterov"] = True
        params, gradients = normals(901, 0, [64]).requires_grad_(), normals(901, 1, [5, 64])
        group = file.create_group(f"optim/{name}")
        for key in ("lr", "momentum", "weight_decay", "beta1", "beta2", "eps"):
            group.attrs[key] = np.float64(settings.get(key, 0.0))
        store(group, params=params, gradients=gradients)
        optimizer, after = make([params], **arguments), []
        for gradient in gradients:
            params.grad = gradient.clone()
            optimizer.step()
            after.append(params.detach().clone())
        store(group, after=torch.stack(after))


def write_clip(file):
    def by_norm(gradient):
        param = torch.zeros_like(gradient, requires_grad=True)
        param.grad = gradient.clone()
        torch.nn.utils.clip_grad_norm_([param], 1.0)
        return param.grad

    gradient, small = normals(902, 0, [64]), normals(902, 1, [64], 0.01)
    group = file.create_group("clip")
    group.attrs["value"], group.attrs["norm"] = np.float64(0.5), np.float64(1.0)
    store(group, gradient=gradient, by_value=gradient.clamp(-0.5, 0.5), by_norm=by_norm(gradient))
    store(group, small=small, small_by_norm=by_norm(small))


def main():
    philox.known_answers()
    torch.set_num_threads(1)
    with h5py.File("layers.h5", "w", libver=("v108", "v108")) as file:
        for index, (name, (text, shape, batch)) in enumerate(CASES.items()):
            write_case(file, index, name, text, shape, batch)
        write_loss(file)
        write_optim(file)
        write_clip(file)
        print(f"layers.h5: {len(CASES)} layers")


if __name__ == "__main__":
    main()
