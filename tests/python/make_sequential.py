"""Makes a network in PyTorch that glasses has never seen, and says what it gives.

    python make_sequential.py FOLDER

Writes `begun.safetensors` (an `nn.Sequential`'s own names: 0.weight, …), `named.safetensors` (modules with names of their
own), and `begun.logits.safetensors` (`rows` u8 [N, h, w, c], `logits`).
"""

import sys

import torch
from safetensors.torch import save_file
from torch import nn

folder = sys.argv[1]
torch.manual_seed(3)
net = nn.Sequential(
    nn.Conv2d(3, 6, 3, padding=1, bias=False),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Flatten(),
    nn.Linear(6 * 12 * 12, 5),
    nn.Tanh(),
    nn.Linear(5, 2),
).eval()
save_file(net.state_dict(), f"{folder}/begun.safetensors")
names = {"0": "features", "4": "hidden", "6": "answer"}
named = {names[key.split(".")[0]] + "." + key.split(".")[1]: value.double() for key, value in net.state_dict().items()}
save_file(named, f"{folder}/named.safetensors")
rows = torch.randint(0, 256, (50, 24, 24, 3), dtype=torch.uint8)
x = rows.permute(0, 3, 1, 2).double()
x = (x - x.mean((2, 3), keepdim=True)) / x.std((2, 3), correction=0, keepdim=True)
with torch.no_grad():
    logits = net(x.float())
save_file({"rows": rows, "logits": logits}, f"{folder}/begun.logits.safetensors")
