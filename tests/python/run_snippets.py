"""Runs the PyTorch scripts that `glasses export --to safetensors` printed, and compares their logits with ours.

    python run_snippets.py SCRIPT.py…     SCRIPT.samples.safetensors stands beside each

A line a script on standard output, ending in `ok`; the exit code is 1 where one differs by more than 1e-5 (of the larger
of 1 and the value), or fails.
"""

import sys

import torch
from safetensors.torch import load_file

bad = 0
for path in sys.argv[1:]:
    samples = load_file(path.removesuffix(".py") + ".samples.safetensors")
    names = {"rows": samples["rows"].numpy()}
    with torch.no_grad():
        exec(open(path).read(), names)
    found, wanted = names["logits"], samples["logits"]
    assert found.shape == wanted.shape, (path, found.shape, wanted.shape)
    difference = ((found - wanted).abs() / wanted.abs().clamp_min(1)).max().item()
    # Written so that NaN fails.
    good = difference <= 1e-5
    bad += not good
    print(f"{path}: {len(found)} rows, logits differ by at most {difference:.1e} {'ok' if good else 'WRONG'}")
sys.exit(min(bad, 1))
