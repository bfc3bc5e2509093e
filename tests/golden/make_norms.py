"""Makes norms.h5: networks of norms.toml, with batch norm, as PyTorch trains them.

    cd tests/golden && python make_norms.py          # torch 2.15.0, numpy 2.4.6, h5py 3.16.0

Weights and inputs are f32 numbers of the Philox streams of src/kernels/rng.rs (seed 11), the work is done in f64, results are stored
as f32. Gradients are sums over the rows of the batch, all of which are one norm group.

    /<network>   input, logits [b, 3] in training, loss_sum (attribute, f64), and for every layer with weights its tensors and their
                 gradients (`conv0.weight`, `conv0.d_weight`, `batch_norm1.bias`, …); of norms running_mean and running_var after that
                 one step; and used_logits, of the same rows, by those.
"""
import tomllib

import h5py
import numpy as np
import torch

import make_graphs


class Network(make_graphs.Network):
    """Adds batch norm."""

    def __init__(self, index, training):
        super().__init__(index)
        self.training, self.running, self.norms = training, {}, {}

    def layer(self, text, x):
        words = text.split()
        if words[0] != "batch_norm":
            return super().layer(text, x)
        number = self.count()
        options = dict(zip(words[1::2], words[2::2]))
        channels, name = x.shape[-1], f"batch_norm{number}"
        if name not in self.norms:
            address = 1000 * self.index + 2 * number
            weight = (1 + make_graphs.normals(address, 1, [channels], 0.3)).float().to(self.dtype)
            bias = make_graphs.normals(address + 1, 1, [channels], 0.3).to(self.dtype)
            scaled = options.get("scale") != "no"
            self.norms[name] = ({"weight": weight.requires_grad_()} if scaled else {}) | {"bias": bias.requires_grad_()}
            none = [torch.zeros(channels, dtype=self.dtype), torch.ones(channels, dtype=self.dtype)]
            self.running[name] = self.training[name] if self.training else none
        params, running = self.norms[name], self.running[name]
        axes = (0, 3, 1, 2) if x.dim() == 4 else (0, 1)
        back = (0, 2, 3, 1) if x.dim() == 4 else (0, 1)
        y = torch.nn.functional.batch_norm(
            x.permute(axes), *running, params.get("weight"), params["bias"], training=not self.training,
            momentum=float(options.get("momentum", 0.1)), eps=float(options.get("eps", 1e-5)),
        )
        return y.permute(back)


def main():
    with open("norms.toml", "rb") as file:
        networks = tomllib.load(file)["network"]
    with h5py.File("norms.h5", "w") as file:
        for index, spec in enumerate(networks):
            x = make_graphs.normals(1000 * index + 999, 0, [make_graphs.BATCH, *spec["input"]])
            # Far from zero, and of other sizes in each channel: what norms are for.
            x = (x * torch.linspace(0.5, 4, x.shape[-1]) + torch.linspace(-20, 10, x.shape[-1])).float().double()
            network = Network(index, None)
            logits = network.items(spec["layers"], x)
            labels = torch.arange(make_graphs.BATCH) % make_graphs.CLASSES
            loss = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
            loss.backward()
            group = file.create_group(spec["name"])
            group.attrs["loss_sum"] = np.float64(loss.item())

            def store(name, tensor):
                group.create_dataset(name, data=np.asarray(tensor.detach(), dtype=np.float32), track_times=False)

            store("input", x)
            store("logits", logits)
            layers = {name: dict(zip(("weight", "bias"), params)) for name, params in network.params.items()}
            for name, params in (layers | network.norms).items():
                for tensor, value in params.items():
                    store(f"{name}.{tensor}", value)
                    store(f"{name}.d_{tensor}", value.grad)
            for name, (mean, variance) in network.running.items():
                store(f"{name}.running_mean", mean)
                store(f"{name}.running_var", variance)
            with torch.no_grad():
                store("used_logits", Network(index, network.running).items(spec["layers"], x))


if __name__ == "__main__":
    main()
