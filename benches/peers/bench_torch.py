"""PyTorch's side of bench.py: a worker (see bench_worker.py). Works come with a `layout`, "nchw" or "channels_last".

Each figure is what a careful user would write: one thread, the fused optimizer, gradients set to none, inference mode, no Python
loop over pictures. Eager mode, without torch.compile.
"""

import torch
import torch.nn.functional as F

from bench_worker import batches, pictures, serve
from train_pytorch import MODELS, he_init

LEARNING_RATE = 1e-4


def memory_format(work):
    return torch.channels_last if work["layout"] == "channels_last" else torch.contiguous_format


def standardise(images, layout):
    """Pictures u8 [n, h, w, c] as standardised f32 [n, c, h, w]: every channel of every picture on its own.

    layer_norm over the planes is the fastest of nine ways tried: 0.6 ms for 16 pictures of 80x80x3, under a hundredth of a step;
    var_mean and arithmetic took 6 to 13 ms. The transposition of bytes before it is included, the one after it for channels_last too.
    """
    planes = images.permute(0, 3, 1, 2).contiguous().float()
    return F.layer_norm(planes, planes.shape[2:], eps=1e-12).contiguous(memory_format=layout)


def network(work):
    torch.manual_seed(1)
    model = MODELS[work["model"]](tuple(work["input"]), work["classes"])
    he_init(model)
    notes = {"parameters": sum(p.numel() for p in model.parameters())}
    return model.to(memory_format=memory_format(work)), notes


def training_step(work):
    """Gather the rows, standardise, forward with drop-out, loss, backward, plain SGD, the loss read back."""
    model, notes = network(work)
    model.train()
    images, labels = map(torch.from_numpy, pictures(work))
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, fused=True)
    rows, layout = batches(work["batch"]), memory_format(work)

    def step():
        index = torch.from_numpy(next(rows))
        logits = model(standardise(images[index], layout))
        loss = F.cross_entropy(logits, labels[index])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step, notes


def inference(work):
    """Standardise, forward, softmax; the pictures lie in memory as bytes."""
    model, notes = network(work)
    model.eval()
    images, layout = torch.from_numpy(pictures(work)[0][: work["batch"]]), memory_format(work)

    @torch.inference_mode()
    def step():
        return torch.softmax(model(standardise(images, layout)), 1).numpy()

    return step, notes


def convolution(work):
    """One pass over tensors that already lie in the layout. The weights' gradient comes with that of the bias."""
    torch.manual_seed(1)
    h, w, c_in = work["input"]
    c_out, window, stride, padding = work["c_out"], work["window"], work["stride"], work["window"] // 2
    layout = memory_format(work)
    x = torch.randn(work["batch"], c_in, h, w).contiguous(memory_format=layout)
    weight = torch.randn(c_out, c_in, window, window).contiguous(memory_format=layout)
    bias = torch.randn(c_out)

    @torch.inference_mode()
    def forward():
        return F.conv2d(x, weight, bias, stride, padding)

    d_out = torch.randn_like(forward())
    wanted = {"backward_data": (True, False, False), "backward_weights": (False, True, True)}

    @torch.inference_mode()
    def backward():
        return torch.ops.aten.convolution_backward(
            d_out, x, weight, [c_out], [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1, wanted[work["pass"]]
        )

    return forward if work["pass"] == "forward" else backward, {}


def prepare(work):
    return {"step": training_step, "infer": inference, "conv": convolution}[work["kind"]](work)


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    mkldnn = f"oneDNN {'on' if torch.backends.mkldnn.is_available() else 'off'}"
    serve(prepare, {"PyTorch": f"{torch.__version__} ({torch.backends.cpu.get_cpu_capability()}, {mkldnn})"})
