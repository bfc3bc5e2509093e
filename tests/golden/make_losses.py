"""Makes losses.json: the first training losses of whole networks, with the batch order, weights and dropout of glasses.

    cd tests/golden && python make_losses.py          # torch 2.15.0, numpy 2.4.6; four minutes on one core

The Rust program must give the same losses of the `steady` runs to 1e-4. Nothing is shared with it but the rules:

    data       100 rows; pixel e of row r is bits(e) & 255 of the Synth stream (seed 99, layer 0, row r), its label
               bits(0) % classes of (seed 99, layer 1, row r); spiral: feature e is 2 * uniform(e) - 1 of layer 0
    images     are standardised each per channel (population deviation, ddof 0)
    order      'Shards' of docs/lockstep.md: 8 shards, batch 16, seed 1; 7 steps an epoch, the last of 4 rows
    weights    He normal, std sqrt(2 / fan_in), of the Weights stream, layer = index in the parameter table; biases 0
    dropout    keeps element e of a layer for row r where uniform(e) >= p of (Dropout, index in the layer list, epoch, row r)
    decay      on all parameters, biases too, as torch.optim does

    {"runs": [{model, layers, input_shape, classes, optimizer, lr, momentum, weight_decay, losses, correct, count, f32_drift, steady}],
     "orders": [{rows, shards, batch, seed, first, epochs: [[[dataset rows of a batch], ..], ..]}], "rng": {..}}

`losses` is the mean over the batch before the update, in f64; `f32_drift` is how far (relative) the same run in f32 goes from it
at each step. At high learning rates on noise, rounding flips a ReLU here and there and the runs part (glasses-deep, lr 1e-2: by 3 %), so
only runs whose drift stays below 1e-5 are `steady`; of the others, trust the steps before the drift sets in.
`first` null means that all rows of a batch are listed, else that many.
"""
import json
import math
import time

import numpy as np
import torch
import torch.nn.functional as F

import philox
from philox import Stream
from torch_layers import Layer

ROWS, SHARDS, BATCH, SEED, DATA_SEED = 100, 8, 16, 1, 99


def glasses(scale=1, blocks=1):
    convs = []
    for window, filters in ((5, 16), (3, 16), (3, 32)):
        convs += [f"conv {window}x{window}x{filters * scale}", "relu"]
    dense = ["dense 128", "relu", "dropout 0.1"] * 2 + ["dense 2"]
    return [80, 80, 3], (convs + ["maxpool 2"]) * blocks + ["flatten"] + dense


MODELS = {
    "glasses": glasses(),
    "glasses-deep": glasses(blocks=2),
    "glasses-wide": glasses(scale=2),
    "mnist": (
        [28, 28, 1],
        "conv 3x3x10,leaky_relu,maxpool 2,conv 3x3x8,leaky_relu,maxpool 2,flatten,dense 128,leaky_relu,"
        "dropout 0.2,dense 10".split(","),
    ),
    "spiral": ([2], "dense 200,relu,dense 100,relu,dense 50,relu,dense 3".split(",")),
}

RUNS = [  # model, steps, settings
    ("glasses", 10, dict(optimizer="sgd", lr=1e-2)),
    ("glasses", 10, dict(optimizer="adamw", lr=1e-3, weight_decay=1e-2)),
    ("glasses", 10, dict(optimizer="sgd", lr=1e-3)),
    ("glasses", 10, dict(optimizer="adamw", lr=1e-5, weight_decay=1e-2)),
    ("glasses-deep", 10, dict(optimizer="momentum", lr=1e-5, momentum=0.9)),
    ("glasses-wide", 3, dict(optimizer="sgd", lr=1e-3)),
    ("mnist", 10, dict(optimizer="momentum", lr=1e-2, momentum=0.9)),
    ("spiral", 10, dict(optimizer="momentum", lr=1e-2, momentum=0.9)),
    ("glasses-wide", 3, dict(optimizer="sgd", lr=1e-2)),
]


# The order of the rows


def bit_reversed(shards):
    """Shard numbers in bit-reversed order, numbers >= shards left out."""
    bits = (shards - 1).bit_length()
    reverse = lambda n: int(f"{n:0{bits}b}"[::-1], 2) if bits else 0
    return [s for s in map(reverse, range(1 << bits)) if s < shards]


def epoch_order(rows, shards, seed, epoch):
    """Dataset row at every position of an epoch."""
    sigma = bit_reversed(shards)
    lengths = [rows // shards] * shards
    for s in sigma[: rows % shards]:
        lengths[s] += 1
    starts = np.cumsum([0] + lengths)
    shuffled = [Stream(seed, philox.SHUFFLE, 0, epoch, s).permutation(lengths[s]) for s in range(shards)]
    order = []
    for position in range(rows):
        shard = sigma[position % shards]
        order.append(int(starts[shard]) + shuffled[shard][position // shards])
    assert sorted(order) == list(range(rows))
    return order


def batches(rows, shards, batch, seed, epoch):
    order = epoch_order(rows, shards, seed, epoch)
    return [order[start : start + batch] for start in range(0, rows, batch)]


# Data, weights, dropout


def dataset(shape, classes):
    """f64 inputs [rows, ..], labels."""
    elements = math.prod(shape)
    streams = [Stream(DATA_SEED, philox.SYNTH, 0, 0, r) for r in range(ROWS)]
    labels = [int(Stream(DATA_SEED, philox.SYNTH, 1, 0, r).bits(1)[0]) % classes for r in range(ROWS)]
    if len(shape) == 1:
        inputs = np.stack([2.0 * s.uniform(elements).astype(np.float64) - 1.0 for s in streams])
    else:
        pixels = np.stack([s.bits(elements) & 255 for s in streams]).reshape(ROWS, *shape).astype(np.float64)
        inputs = (pixels - pixels.mean((1, 2), keepdims=True)) / pixels.std((1, 2), keepdims=True)
    return torch.tensor(inputs), torch.tensor(labels)


def initial_params(layers, shape, dtype):
    """For each layer its [weight, bias] or []."""
    params, index, probe = [], 0, torch.zeros(1, *shape, dtype=dtype)
    for layer in layers:
        shapes, fan_in = layer.parameter_shapes(probe.shape)
        tensors = []
        if shapes:
            values = Stream(SEED, philox.WEIGHTS, index).normal(math.prod(shapes[0]), math.sqrt(2.0 / fan_in))
            tensors = [torch.tensor(values.reshape(shapes[0])).to(dtype), torch.zeros(shapes[1], dtype=dtype)]
        index += len(tensors)
        params.append(tensors)
        if layer.kind != "dropout":
            probe = layer.forward(probe, *tensors)
    for tensor in sum(params, []):
        tensor.requires_grad_()
    return params


def dropout(x, layer_index, p, epoch, rows):
    keep = [Stream(SEED, philox.DROPOUT, layer_index, epoch, r).uniform(x[0].numel()) >= np.float32(p) for r in rows]
    return x * torch.tensor(np.stack(keep).reshape(x.shape)).to(x.dtype) / (1.0 - p)


def forward(layers, params, x, epoch, rows):
    for index, (layer, tensors) in enumerate(zip(layers, params)):
        if layer.kind == "dropout":
            x = dropout(x, index, float(layer.size), epoch, rows)
        else:
            x = layer.forward(x, *tensors)
    return x


# Runs


def make_optimizer(params, optimizer, lr, momentum=0.0, weight_decay=0.0):
    if optimizer == "adamw":
        return torch.optim.AdamW(params, lr=lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=weight_decay)
    return torch.optim.SGD(params, lr=lr, momentum=momentum, weight_decay=weight_decay)


def train(model, steps, settings, dtype):
    """losses, correct and count of every step."""
    shape, texts = MODELS[model]
    layers, classes = [Layer(text) for text in texts], int(texts[-1].split()[1])
    inputs, labels = dataset(shape, classes)
    inputs = inputs.to(torch.float32).to(dtype)  # glasses keeps standardised pixels in f32
    params = initial_params(layers, shape, dtype)
    optimizer = make_optimizer(sum(params, []), **settings)
    epochs = range(-(-steps * BATCH // ROWS) + 1)
    plan = [(epoch, rows) for epoch in epochs for rows in batches(ROWS, SHARDS, BATCH, SEED, epoch)][:steps]
    losses, correct, count = [], [], []
    for epoch, rows in plan:
        logits = forward(layers, params, inputs[rows], epoch, rows)
        loss_sum = F.cross_entropy(logits, labels[rows], reduction="sum")
        optimizer.zero_grad()
        (loss_sum / len(rows)).backward()
        optimizer.step()
        losses.append(loss_sum.item() / len(rows))
        correct.append(int((logits.argmax(1) == labels[rows]).sum()))
        count.append(len(rows))
    return losses, correct, count


def run(model, steps, settings):
    start = time.time()
    losses, correct, count = train(model, steps, settings, torch.float64)
    in_f32, correct_f32, _ = train(model, steps, settings, torch.float32)
    drift = [float(f"{abs(b / a - 1.0):.1e}") for a, b in zip(losses, in_f32)]
    print(f"{model} {settings}: drift {max(drift)} ({time.time() - start:.0f} s)")
    for a, b, n, m in zip(losses, in_f32, correct, correct_f32):
        print(f"    {a:.7f} {b / a - 1.0:+.1e} correct {n}{'' if n == m else f' (f32: {m})'}")
    shape, texts = MODELS[model]
    return {
        "model": model,
        "layers": texts,
        "input_shape": shape,
        "classes": int(texts[-1].split()[1]),
        "optimizer": settings["optimizer"],
        "lr": settings["lr"],
        "momentum": settings.get("momentum", 0.0),
        "weight_decay": settings.get("weight_decay", 0.0),
        "losses": losses,
        "correct": correct,
        "count": count,
        "f32_drift": drift,
        "steady": max(drift) < 1e-5,
    }


def orders():
    described = []
    for rows, shards, batch, first in ((100, 8, 16, 3), (37, 5, 7, None)):
        epochs = [[b[:first] for b in batches(rows, shards, batch, SEED, epoch)] for epoch in range(2)]
        described.append(dict(rows=rows, shards=shards, batch=batch, seed=SEED, first=first, epochs=epochs))
    return described


def rng_values():
    """A handful of numbers at an address with all its parts in use."""
    address = dict(seed=0x0123456789ABCDEF, purpose=philox.DROPOUT, layer=10, epoch=2, row=77)
    stream = Stream(*address.values())
    address["seed"] = str(address["seed"])  # beyond the integers that every JSON reader keeps
    return {
        "address": address,
        "bits": stream.bits(9).tolist(),
        "uniform": [float(u) for u in stream.uniform(9)],
        "below_1000": [int(b) * 1000 >> 32 for b in stream.bits(9)],
        "normal_std_0.5": [float(v) for v in stream.normal(9, 0.5)],
        "permutation_10": stream.permutation(10),
        "shuffle_seed_1_permutation_10": Stream(1, philox.SHUFFLE).permutation(10),
        "weights_seed_1_normal": [float(v) for v in Stream(1, philox.WEIGHTS).normal(9, 1.0)],
    }


def main():
    philox.known_answers()
    torch.set_num_threads(1)
    golden = {"rng": rng_values(), "orders": orders(), "runs": [run(*described) for described in RUNS]}
    with open("losses.json", "w") as file:
        lines = ",\n".join(f"    {json.dumps(r)}" for r in golden["runs"])
        described = ",\n".join(f"    {json.dumps(o)}" for o in golden["orders"])
        file.write(f'{{\n  "rng": {json.dumps(golden["rng"])},\n')
        file.write(f'  "orders": [\n{described}\n  ],\n  "runs": [\n{lines}\n  ]\n}}\n')


if __name__ == "__main__":
    main()
