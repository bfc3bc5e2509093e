"""A rank of PyTorch's DistributedDataParallel over gloo, on the network `glasses`: see ddp_rank.py.

    for rank in 0 1; do
        echo '{"batch": 16, "repetitions": 20}' |
            RANK=$rank WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=29400 taskset -c $rank ~/peers-venv/bin/python benches/peers/ddp_torch.py &
    done; wait

The step is that of bench_torch.py in channels_last, under DDP. A work may carry settings of DDP: {"ddp": {"static_graph": true}}.
"""

from ddp_rank import MODEL, Place, check, settle

if __name__ == "__main__":
    settle()

import os
import sys

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel

from bench_torch import LEARNING_RATE, network, standardise
from bench_worker import batches, pictures, serve

# README.md says what else was tried.
SETTINGS = {"bucket_cap_mb": 1, "gradient_as_bucket_view": True}


def training_step(work):
    """Gather this rank's rows, standardise, forward with drop-out, loss, backward with the exchange, plain SGD, the loss read back."""
    work = MODEL | {"layout": "channels_last"} | work
    model, notes = network(work)
    model.train()
    model = DistributedDataParallel(model, **SETTINGS | work.get("ddp", {}))
    images, labels = map(torch.from_numpy, pictures(work))
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, fused=True)
    rows = batches(work["batch"])

    def step():
        index = torch.from_numpy(next(rows))
        logits = model(standardise(images[index], torch.channels_last))
        loss = F.cross_entropy(logits, labels[index])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step, check(notes["parameters"])


def main():
    place = Place()
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    dist.init_process_group("gloo", f"tcp://{place.address}:{place.port}", rank=place.rank, world_size=place.size)
    serve(training_step, {"PyTorch DDP": f"{torch.__version__}, gloo, {place.size} ranks"})
    dist.destroy_process_group()
    # All is answered. What PyTorch's threads do while the interpreter ends aborts now and then.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
