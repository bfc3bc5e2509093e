"""Makes graphs.h5: the networks of graphs.toml, with residual blocks, branches and channel scaling, as PyTorch has them.

    cd tests/golden && python make_graphs.py          # torch 2.15.0, numpy 2.4.6, h5py 3.16.0

Weights and inputs are f32 numbers of the Philox streams of src/kernels/rng.rs (seed 11), the work is done in f64, results are stored
as f32. Gradients are sums over the rows of the batch.

    /<network>   input, logits [b, 3], labels, loss_sum (attribute, f64), and for every layer with weights, `conv0`, `dense7`, …
                 (the number counts all layers, blocks' joins among them), weight, d_weight, and bias, d_bias where there is one
"""
import tomllib

import h5py
import numpy as np
import torch

import philox
from torch_layers import Layer

SEED, CLASSES, BATCH = 11, 3, 5


def normals(layer, row, shape, std=1.0):
    numbers = philox.Stream(SEED, philox.SYNTH, layer, 0, row).normal(int(np.prod(shape)), std)
    return torch.tensor(numbers, dtype=torch.float64).reshape(shape)


class Network:
    """Runs a network once, and makes its weights as it comes to them."""

    dtype = torch.float64

    def __init__(self, index):
        self.index, self.number, self.params = index, 0, {}

    def count(self):
        self.number += 1
        return self.number - 1

    def layer(self, text, x):
        number = self.count()
        layer = Layer(text.replace("classes", str(CLASSES)))
        if layer.kind == "global_avgpool":
            return x.mean(dim=(1, 2))
        if layer.kind == "global_maxpool":
            return x.amax(dim=(1, 2))
        if layer.kind == "drop_path":  # of probability 0
            return x
        shapes, fan_in = layer.parameter_shapes(list(x.shape[1:]))
        scales = [fan_in**-0.5, 0.1] if shapes else []
        address = 1000 * self.index + 2 * number
        name = f"{layer.kind}{number}"
        if shapes and name not in self.params:
            new = (normals(address + i, 1, s, scale) for i, (s, scale) in enumerate(zip(shapes, scales)))
            self.params[name] = [param.to(self.dtype).requires_grad_() for param in new]
        params = self.params.get(name, [])
        return layer.forward(x, *params)

    def items(self, items, x):
        for item, behind in zip(items, list(items[1:]) + [None]):
            if isinstance(item, str):
                item = item.split(": ")[-1]
                x = self.layer(item + self.bias_of(item, behind), x)
            else:
                x = self.block(item, x)
        return x

    @staticmethod
    def bias_of(item, behind):
        """Of a convolution that says nothing: none in front of a norm."""
        is_conv = item.split()[0] in ("conv", "depthwise") and " bias " not in item
        return " bias no" if is_conv and isinstance(behind, str) and "_norm" in behind else ""

    def block(self, block, x):
        for _ in range(block.get("repeat", 1)):
            if "layers" in block:
                x = self.items(block["layers"], x)
            elif "residual" in block:
                y = self.items(block["residual"], x)
                x = y + self.items(block.get("shortcut", []), x)
                self.count()
            elif "scale" in block:
                y = self.items(block["scale"], x)
                x = x * (y[:, None, None, :] if x.dim() == 4 else y)
                self.count()
            else:
                ends = [self.items(branch, x) for branch in block["branches"]]
                x = sum(ends[1:], ends[0]) if block["join"] == "add" else torch.cat(ends, -1)
                self.count()
        return x


def main():
    with open("graphs.toml", "rb") as file:
        networks = tomllib.load(file)["network"]
    with h5py.File("graphs.h5", "w") as file:
        for index, spec in enumerate(networks):
            network = Network(index)
            x = normals(1000 * index + 999, 0, [BATCH, *spec["input"]])
            logits = network.items(spec["layers"], x)
            labels = torch.arange(BATCH) % CLASSES
            loss = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
            loss.backward()
            group = file.create_group(spec["name"])
            group.attrs["loss_sum"] = np.float64(loss.item())

            def store(name, tensor):
                group.create_dataset(name, data=np.asarray(tensor.detach(), dtype=np.float32), track_times=False)

            store("input", x)
            store("logits", logits)
            for name, params in network.params.items():
                named = list(zip(("weight", "bias"), params))
                for kind, param in named:
                    store(f"{name}.{kind}", param)
                for kind, param in named:
                    store(f"{name}.d_{kind}", param.grad)


if __name__ == "__main__":
    main()
