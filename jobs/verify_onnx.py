#!/usr/bin/env python3
"""Checks ONNX files that `glasses export --samples` wrote, in another program than ours.

    python jobs/verify_onnx.py FILE.onnx…      needs the PyPI packages onnx, onnxruntime, safetensors, numpy

For each file: onnx.checker, then onnxruntime on the rows of FILE.samples.safetensors, one by one and all at once. The
classes must be those that glasses predicted, the probabilities the same within 1e-5. Ends with 1 where they are not.
"""

import json
import sys

import numpy
import onnx
import onnxruntime
from safetensors.numpy import load_file

TOLERANCE = 1e-5


def verify(path):
    """A line on one file; raises AssertionError where something differs."""
    onnx.checker.check_model(path, full_check=True)
    samples = load_file(path.removesuffix(".onnx") + ".samples.safetensors")
    rows, wanted = samples["rows"], samples["probabilities"]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    notes = session.get_modelmeta().custom_metadata_map
    classes = json.loads(notes["classes"])
    assert len(classes) == wanted.shape[1], f"{len(classes)} names for {wanted.shape[1]} classes"
    assert notes["origin"], "no origin"
    (given,) = session.get_inputs()
    assert given.type == {"uint8": "tensor(uint8)", "float32": "tensor(float)"}[str(rows.dtype)], given.type
    assert given.shape == ["N", *rows.shape[1:]], given.shape
    # Whatever the outputs are called, the first one is the probabilities.
    all_at_once = session.run(None, {given.name: rows})[0]
    one_by_one = numpy.concatenate([session.run(None, {given.name: rows[n : n + 1]})[0] for n in range(min(8, len(rows)))])
    for found, want in [(all_at_once, wanted), (one_by_one, wanted[: len(one_by_one)])]:
        assert found.dtype == numpy.float32 and found.shape == want.shape, f"{found.dtype} {found.shape}"
        # Written so that NaN fails.
        assert (abs(found - want) <= TOLERANCE).all(), f"probabilities differ by {abs(found - want).max()}"
        # Two classes within the tolerance of each other are equally right.
        best = want[numpy.arange(len(want)), found.argmax(1)]
        assert (found.argmax(1) == want.argmax(1)).all() or (want.max(1) - best <= TOLERANCE).all(), "other classes"
    same = int((all_at_once.argmax(1) == wanted.argmax(1)).sum())
    predicted = len(set(wanted.argmax(1).tolist()))
    return (
        f"{path}: {len(rows)} rows, {same} of the same class ({predicted} of {len(classes)} classes predicted), "
        f"probabilities differ by at most {abs(all_at_once - wanted).max():.1e}"
    )


def main(paths):
    if not paths:
        sys.exit(__doc__)
    bad = 0
    for path in paths:
        try:
            print(verify(path))
        except Exception as error:  # every file is looked at, and each says what is wrong with it
            bad += 1
            print(f"{path}: WRONG: {error}")
    return min(bad, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
