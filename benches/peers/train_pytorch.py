"""The peer trainer: the networks of glasses in PyTorch, on a dataset of glasses, on the CPU.

    python benches/peers/train_pytorch.py faces.h5 --model glasses --optimizer adamw --schedule cosine --epochs 10 --seed 1

Reads /train/images u8 [n, h, w, c] and /train/labels (or /train/features), and /test/..; standardises each image per channel;
He initialisation, channels_last, drop-out; the last batch of an epoch may be short, as in glasses. Weight decay (L2 for all but
adamw) is on all parameters, of a network with norms on all but norms and biases; a convolution in front of a norm is drawn by its
outputs, as in glasses and torchvision. It shuffles with PyTorch's own generator: same recipe, other random numbers than glasses.
Prints a line an epoch and, last, one line of JSON (--json: only that). `images_per_sec` is of training alone.
Written with torch 2.15.0, h5py 3.16.0, numpy 2.4.6.
"""
import argparse
import json
import math
import time

import h5py
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


def conv(c_in, c_out, window):
    return nn.Conv2d(c_in, c_out, window, padding=window // 2)


def glasses(shape, classes, scale=1, blocks=1):
    h, w, c = shape
    layers = []
    for _ in range(blocks):
        for window, filters in ((5, 16), (3, 16), (3, 32)):
            layers += [conv(c, filters * scale, window), nn.ReLU()]
            c = filters * scale
        layers.append(nn.MaxPool2d(2))
        h, w = h // 2, w // 2
    dense = [nn.Linear(c * h * w, 128), nn.ReLU(), nn.Dropout(0.1), nn.Linear(128, 128), nn.ReLU(), nn.Dropout(0.1)]
    return nn.Sequential(*layers, nn.Flatten(), *dense, nn.Linear(128, classes))


def mnist(shape, classes):
    h, w, c = shape
    return nn.Sequential(
        *[conv(c, 10, 3), nn.LeakyReLU(0.01), nn.MaxPool2d(2)],
        *[conv(10, 8, 3), nn.LeakyReLU(0.01), nn.MaxPool2d(2), nn.Flatten()],
        *[nn.Linear(8 * (h // 4) * (w // 4), 128), nn.LeakyReLU(0.01), nn.Dropout(0.2), nn.Linear(128, classes)],
    )


def spiral(shape, classes):
    sizes = [shape[0], 200, 100, 50]
    layers = [layer for a, b in zip(sizes, sizes[1:]) for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(50, classes))


class Residual(nn.Module):
    """Two convolutions, and a shortcut that a stride makes a 1x1 convolution."""

    def __init__(self, c_in, c_out, stride):
        super().__init__()
        self.body = nn.Sequential(*normed(c_in, c_out, 3, stride), nn.ReLU(), *normed(c_out, c_out, 3, 1))
        self.shortcut = nn.Sequential(*normed(c_in, c_out, 1, stride)) if stride > 1 else nn.Identity()

    def forward(self, x):
        return F.relu(self.body(x) + self.shortcut(x))


def normed(c_in, c_out, window, stride):
    return nn.Conv2d(c_in, c_out, window, stride, window // 2, bias=False), nn.BatchNorm2d(c_out)


def resnet20(shape, classes):
    layers, c = [*normed(shape[2], 16, 3, 1), nn.ReLU()], 16
    for filters, stride in ((16, 1), (32, 2), (64, 2)):
        for block in range(3):
            layers.append(Residual(c, filters, stride if block == 0 else 1))
            c = filters
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c, classes))


def resnet18(shape, classes):
    from torchvision.models import resnet18 as of_torchvision  # only this network wants it

    assert shape[2] == 3, "resnet18 is for pictures of three channels"
    return of_torchvision(num_classes=classes)


MODELS = {
    "glasses": glasses,
    "glasses-deep": lambda shape, classes: glasses(shape, classes, blocks=2),
    "glasses-wide": lambda shape, classes: glasses(shape, classes, scale=2),
    "mnist": mnist,
    "resnet18": resnet18,
    "resnet20": resnet20,
    "spiral": spiral,
}


def he_init(model):
    for layer in model.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(layer.weight, mode="fan_in" if layer.bias is not None else "fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def read_split(file, split):
    """Standardised inputs and labels of a split: ([n, c, h, w] in channels_last or [n, d]), [n]."""
    group = file[split]
    labels = torch.tensor(group["labels"][:].astype(np.int64))
    if "features" in group:
        return torch.tensor(group["features"][:].astype(np.float32)), labels
    images = group["images"][:].astype(np.float32)
    mean, std = images.mean((1, 2), keepdims=True), images.std((1, 2), keepdims=True)
    standard = (images - mean) / np.where(std > 0.0, std, 1.0)
    return torch.tensor(standard).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last), labels


def make_optimizer(options, model):
    lr, decay = options.lr, options.weight_decay
    params = list(model.parameters())
    if any(isinstance(layer, nn.BatchNorm2d) for layer in model.modules()):
        vectors, others = [p for p in params if p.dim() == 1], [p for p in params if p.dim() > 1]
        params = [{"params": others}, {"params": vectors, "weight_decay": 0.0}]
    if options.optimizer == "adam":
        return torch.optim.Adam(params, lr=lr, weight_decay=decay)
    if options.optimizer == "adamw":
        return torch.optim.AdamW(params, lr=lr, weight_decay=decay)
    momentum = 0.0 if options.optimizer == "sgd" else options.momentum
    return torch.optim.SGD(params, lr=lr, momentum=momentum, weight_decay=decay, nesterov=options.optimizer == "nesterov")


def learning_rate(options, step, warmup, total):
    """The rate of step `step`, from 0: linear up over `warmup` steps, then constant or a half cosine down to 0."""
    if step < warmup:
        return options.lr * (step + 1) / warmup
    if options.schedule == "constant":
        return options.lr
    return options.lr * 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / (total - warmup)))


@torch.no_grad()
def evaluate(model, inputs, labels, batch=64):
    """Mean loss and accuracy."""
    model.eval()
    loss_sum, correct = 0.0, 0
    for start in range(0, len(labels), batch):
        logits, wanted = model(inputs[start : start + batch]), labels[start : start + batch]
        loss_sum += F.cross_entropy(logits, wanted, reduction="sum").item()
        correct += int((logits.argmax(1) == wanted).sum())
    return loss_sum / len(labels), correct / len(labels)


def train_epoch(model, optimizer, options, data, epoch, order):
    """Mean loss and accuracy over the epoch, as seen while the weights changed."""
    inputs, labels = data
    steps = -(-len(labels) // options.batch)
    warmup, total = round(options.warmup_epochs * steps), options.epochs * steps
    loss_sum, correct = 0.0, 0
    model.train()
    for index, rows in enumerate(order.split(options.batch)):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(options, epoch * steps + index, warmup, total)
        batch = inputs[rows]
        if batch.dim() == 4:
            if options.flip:  # left and right, every image with probability 1/2
                batch = torch.where(torch.rand(len(rows), 1, 1, 1) < 0.5, batch, batch.flip(3))
            batch = batch.contiguous(memory_format=torch.channels_last)
        logits, wanted = model(batch), labels[rows]
        loss = F.cross_entropy(logits, wanted)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if options.clip_norm:
            nn.utils.clip_grad_norm_(model.parameters(), options.clip_norm)
        optimizer.step()
        loss_sum += loss.item() * len(rows)
        correct += int((logits.argmax(1) == wanted).sum())
    return loss_sum / len(labels), correct / len(labels)


def run(options):
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    with h5py.File(options.data) as file:
        train, test = read_split(file, "train"), read_split(file, "test")
    shape = train[0].shape[1:]
    shape = (shape[1], shape[2], shape[0]) if len(shape) == 3 else shape
    model = MODELS[options.model](shape, int(train[1].max()) + 1)
    he_init(model)
    model = model.to(memory_format=torch.channels_last)
    optimizer = make_optimizer(options, model)

    history, training, start = [], 0.0, time.perf_counter()
    for epoch in range(options.epochs):
        begin = time.perf_counter()
        train_loss, train_accuracy = train_epoch(model, optimizer, options, train, epoch, torch.randperm(len(train[1])))
        seconds = time.perf_counter() - begin
        training += seconds
        test_loss, test_accuracy = evaluate(model, *test)
        history.append([train_loss, train_accuracy, test_loss, test_accuracy])
        if not options.json:
            print(
                f"epoch {epoch + 1:3}/{options.epochs}  train {train_loss:.4f} {train_accuracy:.4f}  "
                f"test {test_loss:.4f} {test_accuracy:.4f}  {len(train[1]) / seconds:.1f} images/s",
                flush=True,
            )
    names = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
    summary = vars(options) | dict(zip(names, (round(value, 5) for value in history[-1])))
    summary["best_test_accuracy"] = round(max(row[3] for row in history), 5)
    summary["images_per_sec"] = round(options.epochs * len(train[1]) / training, 1)
    summary["seconds"] = round(time.perf_counter() - start, 1)
    summary["parameters"] = sum(p.numel() for p in model.parameters())
    print(json.dumps(summary), flush=True)


def main():
    parser = argparse.ArgumentParser(description="trains a network of glasses in PyTorch")
    parser.add_argument("data")
    parser.add_argument("--model", choices=MODELS, default="glasses")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--optimizer", choices=["sgd", "momentum", "nesterov", "adam", "adamw"], default="adamw")
    parser.add_argument("--weight-decay", type=float, default=0.0)
    parser.add_argument("--momentum", type=float, default=0.9)
    parser.add_argument("--schedule", choices=["constant", "cosine"], default="constant")
    parser.add_argument("--warmup-epochs", type=float, default=0.0)
    parser.add_argument("--clip-norm", type=float, default=0.0)
    parser.add_argument("--flip", action="store_true", help="mirror training images at random")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print the final line only")
    run(parser.parse_args())


if __name__ == "__main__":
    main()
