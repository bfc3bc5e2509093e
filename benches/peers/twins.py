"""Networks of the zoo in the libraries that they are of: torchvision and timm.

    python benches/peers/twins.py [target/release/glasses]     # torch, torchvision, timm, onnxruntime, safetensors, numpy; 10 minutes

Each network is trained here for 40 steps (the running statistics of a few steps would be far from the batches'), exported, and loaded there
with strict=True by the very script that `glasses export` prints: the logits of 200 pictures must agree to 1e-5 (of the row's largest, where
that is above 1). Weights of the library's own come back by
`glasses import`, with the same logits. The ONNX files, folded and unfolded, give the same classes, and logits to 1e-5, in onnxruntime.
Every network of the zoo with norms is looked at in onnxruntime. Exits with 1 where one differs.
"""
import os
import re
import subprocess
import sys
import tempfile

import numpy as np
import onnxruntime
import torch
from safetensors.torch import load_file, save_file

GLASSES = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else "target/release/glasses")
TWINS = {
    "resnet18": "torchvision", "resnet34": "torchvision", "resnet50": "torchvision", "mobilenet_v2": "torchvision",
    "efficientnet_lite0": "timm",
}
OTHERS = ["convnet", "resnet9", "resnet20", "resnet32", "resnet56"]
SIZE, ROWS, CLASSES = 64, 200, 2
failed = []


def glasses(*args):
    done = subprocess.run([GLASSES, *args], capture_output=True, text=True)
    assert done.returncode == 0, (args, done.stderr[-2000:])
    return done.stdout


def check(what, got, want):
    """Whether logits are the same classes and values."""
    got, want = np.asarray(got, dtype=np.float64), np.asarray(want, dtype=np.float64)
    scale = np.maximum(np.abs(want).max(1, keepdims=True), 1.0)
    apart, same = (np.abs(got - want) / scale).max(), int((got.argmax(1) == want.argmax(1)).sum())
    # Two logits that are one to rounding have no class.
    ok = apart <= 1e-5 and len(want) == ROWS
    print(f"{what}: {len(want)} pictures, {same} of the same class, {apart:.1e} apart{'' if ok else '  WRONG'}", flush=True)
    if not ok:
        failed.append(what)


def twin(name):
    if TWINS[name] == "timm":
        import timm

        return timm.create_model("tf_efficientnet_lite0", num_classes=CLASSES)
    import torchvision

    return getattr(torchvision.models, name)(num_classes=CLASSES)


def prepared(rows):
    x = torch.as_tensor(rows).permute(0, 3, 1, 2).double()
    mean, deviation = x.mean((2, 3), keepdim=True), x.std((2, 3), correction=0, keepdim=True)
    return (x.float() - mean.float()) * (1 / deviation.clamp_min(1e-12)).float()


def of_library(name):
    """The library's own weights, come here: running statistics as after training."""
    net = twin(name)
    torch.manual_seed(3)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0, 0.2)
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
    save_file({k: v.contiguous() for k, v in net.state_dict().items() if v.dtype == torch.float32}, "own.safetensors")
    glasses("import", "own.safetensors", "--model", name, "--input", f"{SIZE}x{SIZE}x3", "--classes", "no,yes", "--out", f"own-{name}")
    glasses("export", f"own-{name}/model.h5", "--to", "safetensors", "--out", f"{name}-back.safetensors", "--samples", "faces.h5")
    samples = load_file(f"{name}-back.samples.safetensors")
    with torch.no_grad():
        check(f"{name}: the library's weights, here", samples["logits"], net.eval()(prepared(samples["rows"])))


def onnx(name):
    for flags in ([], ["--unfolded"]):
        out = f"{name}{'-unfolded' if flags else ''}.onnx"
        glasses("export", name, "--to", "onnx", "--out", out, "--samples", "faces.h5", *flags)
        samples = load_file(out.replace(".onnx", ".samples.safetensors"))
        session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
        logits = session.run(["logits"], {"pictures": samples["rows"].numpy()})[0]
        check(f"{name}: onnxruntime{', unfolded' if flags else ''}", logits, samples["logits"])


def main():
    glasses("synth", "--out", "faces.h5", "--count", "420", "--size", str(SIZE), "--test", "0.5")
    for name in [*TWINS, *OTHERS]:
        glasses("train", "--data", "faces.h5", "--model", name, "--epochs", "5", "--max-steps", "40", "--out", name)
        onnx(name)
        if name not in TWINS:
            continue
        said = glasses("export", name, "--to", "safetensors", "--out", f"{name}.safetensors", "--samples", "faces.h5")
        script = said[re.search("^import ", said, re.M).start():]
        assert "strict=True" in script, script
        samples = load_file(f"{name}.samples.safetensors")
        scope = {"rows": samples["rows"].numpy()}
        with torch.no_grad():
            exec(script, scope)
        check(f"{name}: {TWINS[name]}, strict=True", scope["logits"], samples["logits"])
        of_library(name)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        main()
