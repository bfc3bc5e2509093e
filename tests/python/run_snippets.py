"""Runs the PyTorch scripts that `glasses export --to safetensors` printed, and compares their logits with ours.

    python run_snippets.py SCRIPT.py…     SCRIPT.samples.safetensors stands beside each

A line a script on standard output, ending in `ok`; the exit code is 1 where one differs by more than 1e-5 (of the larger
of 1 and the row's largest logit), or fails.
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
    scale = wanted.abs().amax(1, keepdim=True).clamp_min(1)
    difference = ((found - wanted).abs() / scale).max().item()
    # Written so that NaN fails.
    good = difference <= 1e-5
    bad += not good
    print(f"{path}: {len(found)} rows, logits up to {wanted.abs().max():.1f} differ by at most {difference:.1e} {'ok' if good else 'WRONG'}")
sys.exit(min(bad, 1))
