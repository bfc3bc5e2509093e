"""Makes norm_losses.json: the first training losses of networks of the zoo with batch norm, as PyTorch has them in f64 and in f32.

    cd tests/golden && python make_norm_losses.py          # torch 2.15.0; two minutes on one core

Weights, rows and labels are those of formulas (make_graphs.py, make_norms.py): step t has 16 rows, the Philox stream (seed 11, Synth,
layer 900000 + 1000 * network + t, row 0), row r of class r % 3. All 16 are one norm group; plain gradient descent; no dropout.
"""
import json
import os
import tomllib

import torch

import make_graphs
import make_norms

NETWORKS = [("resnet20", 32), ("resnet18", 64), ("mobilenet_v2", 64)]
ROWS, STEPS, LR = 16, 10, 1e-5
ZOO = os.environ.get("ZOO", os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../src/model/zoo"))


class Network(make_norms.Network):
    def layer(self, text, x):
        if text.startswith("dropout"):
            self.count()
            return x
        return super().layer(text, x)


def train(index, layers, side, dtype):
    network = Network(index, None)
    network.dtype = dtype
    losses = []
    for step in range(STEPS):
        network.number = 0
        x = make_graphs.normals(900000 + 1000 * index + step, 0, [ROWS, side, side, 3]).to(dtype)
        logits = network.items(layers, x)
        labels = torch.arange(ROWS) % make_graphs.CLASSES
        loss = torch.nn.functional.cross_entropy(logits, labels)
        params = sum(network.params.values(), []) + [p for norm in network.norms.values() for p in norm.values()]
        gradients = torch.autograd.grad(loss, params)
        with torch.no_grad():
            for param, gradient in zip(params, gradients):
                param -= LR * gradient
        losses.append(loss.item())
    return losses


def main():
    runs = []
    for index, (name, side) in enumerate(NETWORKS):
        with open(os.path.join(ZOO, f"{name}.toml"), "rb") as file:
            layers = tomllib.load(file)["layers"]
        exact, rounded = (train(50 + index, layers, side, dtype) for dtype in (torch.float64, torch.float32))
        print(name, [f"{a:.7f} {b / a - 1:+.1e}" for a, b in zip(exact, rounded)], flush=True)
        runs.append({"model": name, "side": side, "losses": exact, "losses_f32": rounded})
    with open("norm_losses.json", "w") as file:
        json.dump({"rows": ROWS, "lr": LR, "runs": runs}, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
