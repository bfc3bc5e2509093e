"""Layers of glasses in PyTorch, from their text: activations NHWC, conv weights [kh, kw, c_in / groups, c_out], dense weights
[inputs, outputs], flatten in NHWC order, `pad same` by TensorFlow's rule. Used by make_layers.py and make_losses.py.

Plain and slow on purpose: tensors are permuted to PyTorch's layout and back around each call. Written with torch 2.15.
"""
import torch
import torch.nn.functional as F

FUNCTIONS = {
    "relu": torch.relu,
    "relu6": F.relu6,
    "hard_swish": F.hardswish,
    "hard_sigmoid": F.hardsigmoid,
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}


class Layer:
    """One line of a network's text, e.g. `conv 5x3x4 stride 2 pad 1`."""

    def __init__(self, text):
        self.text = text
        words = text.split()
        self.kind, rest = words[0], words[1:]
        self.stride, self.pad, self.size = None, None, None
        self.groups, self.dilation, self.bias, self.x, self.eps = 1, 1, "yes", 1, 1e-5
        while rest:
            word = rest.pop(0)
            if word == "eps":
                self.eps = float(rest.pop(0))
            elif word in ("stride", "pad", "groups", "dilation", "x", "bias"):
                value = rest.pop(0)
                setattr(self, word, value if value in ("same", "yes", "no") else int(value))
            else:
                self.size = word
        if self.kind in ("conv", "depthwise"):
            self.kh, self.kw, *c_out = map(int, self.size.split("x"))
            self.c_out = c_out[0] if c_out else None
            self.stride = self.stride or 1
            self.pad = "same" if self.pad is None else self.pad
        elif self.kind in ("maxpool", "avgpool"):
            self.kh = self.kw = int(self.size)
            self.stride = self.stride or self.kh
            self.pad = self.pad or 0

    def parameter_shapes(self, shape):
        """Shapes of weight and bias for inputs of `shape` (without the batch), those that there are; and the weight's fan-in."""
        if self.kind in ("conv", "depthwise"):
            if self.kind == "depthwise":
                self.groups, self.c_out = shape[-1], shape[-1] * self.x
            c_in = shape[-1] // self.groups
            shapes = [(self.kh, self.kw, c_in, self.c_out), (self.c_out,)]
            return shapes[: 1 if self.bias == "no" else 2], self.kh * self.kw * c_in
        if self.kind == "dense":
            return [(shape[-1], int(self.size)), (int(self.size),)], shape[-1]
        if self.kind in ("group_norm", "layer_norm"):
            return [(shape[-1],), (shape[-1],)], 1
        return [], None

    def pads(self, h_in, w_in):
        """(left, right, top, bottom)."""
        if self.pad != "same":
            return (self.pad,) * 4
        extents = [(n, (k - 1) * self.dilation + 1) for n, k in ((w_in, self.kw), (h_in, self.kh))]
        totals = [max((-(-n // self.stride) - 1) * self.stride + k - n, 0) for n, k in extents]
        return tuple(side for total in totals for side in (total // 2, total - total // 2))

    def forward(self, x, weight=None, bias=None):
        """`x` is [batch, h, w, c] or [batch, inputs]. Dropout is the caller's."""
        if self.kind in ("conv", "depthwise", "maxpool", "avgpool", "adaptive_avgpool", "group_norm"):
            return self.windowed(x.permute(0, 3, 1, 2).contiguous(), weight, bias).permute(0, 2, 3, 1)
        if self.kind == "dense":
            return x @ weight + bias
        if self.kind == "layer_norm":
            return F.layer_norm(x, x.shape[-1:], weight, bias, self.eps)
        if self.kind == "flatten":
            return x.reshape(x.shape[0], -1)
        if self.kind == "global_avgpool":
            return x.mean(dim=(1, 2), keepdim=True)
        if self.kind == "global_maxpool":
            return x.amax(dim=(1, 2), keepdim=True)
        if self.kind == "gelu":
            return F.gelu(x, approximate=self.size or "none")
        if self.kind == "leaky_relu":
            return F.leaky_relu(x, float(self.size or 0.01))
        return FUNCTIONS[self.kind](x)

    def windowed(self, x, weight, bias):
        """`x` is NCHW here."""
        if self.kind == "adaptive_avgpool":
            sizes = [int(size) for size in self.size.split("x")]
            return F.adaptive_avg_pool2d(x, sizes if len(sizes) == 2 else sizes * 2)
        if self.kind == "group_norm":
            return F.group_norm(x, int(self.size), weight, bias, self.eps)
        pads = self.pads(*x.shape[2:])
        if self.kind in ("conv", "depthwise"):
            weight = weight.permute(3, 2, 0, 1).contiguous()
            return F.conv2d(F.pad(x, pads), weight, bias, self.stride, 0, self.dilation, self.groups)
        if self.kind == "maxpool":
            return F.max_pool2d(F.pad(x, pads, value=-torch.inf), self.kh, self.stride)
        return F.avg_pool2d(x, self.kh, self.stride, self.pad, count_include_pad=False)
