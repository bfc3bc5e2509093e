"""The side of glasses in bench.py: calls of `glasses bench --json`, each one covering a group of works.

All that depends on the form of that output is in `figure`.
"""

import json
import os
import subprocess
import tempfile

from bench_works import PARAMETERS, conv_flops

# `glasses bench` times the table of layers nine times as long as it is told for a figure: enough for all passes together.
TABLE_SHARE = 9


def conv_layers(work):
    """The network around one convolution: with something below that wants its gradient, unless it is a first layer."""
    stride = f" stride {work['stride']}" if work["stride"] > 1 else ""
    below = [] if work["is_first"] else [f"conv 1x1x{work['input'][2]}"]
    return [*below, f"conv {work['window']}x{work['window']}x{work['c_out']}{stride}", "flatten", "dense classes"]


def figure(report, work):
    """Seconds per step of `work` in the output of `glasses bench --json`."""
    if work["kind"] == "step":
        (entry,) = [step for step in report["steps"] if step["batch"] == work["batch"]]
        return work["batch"] / entry["images_per_sec"]
    if work["kind"] == "infer":
        inference = report["inference"]
        return inference["latency_ms"] / 1e3 if work["batch"] == 1 else work["batch"] / inference["images_per_sec"]
    convs = [layer for layer in report["layers"] if layer["layer"].startswith("conv")]
    return conv_flops(work) / (convs[-1][work["pass"]]["gflops"] * 1e9)


class Glasses:
    """Calls the program at `path`; networks of single convolutions go into files of a temporary folder."""

    def __init__(self, path):
        self.path = path
        self.folder = tempfile.TemporaryDirectory(prefix="glasses-bench-")
        self.peaks = []
        self.version = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout.strip()

    def model_and_input(self, work):
        if work["kind"] != "conv":
            return work["model"], work["input"]
        layers = conv_layers(work)
        path = os.path.join(self.folder.name, "conv.toml")
        with open(path, "w") as file:
            file.write(f'name = "conv"\nlayers = {json.dumps(layers)}\n')
        # Under a first layer lie the pictures; else the 1x1 convolution makes the channels out of three.
        return path, work["input"] if work["is_first"] else [*work["input"][:2], 3]

    def measure(self, works, seconds):
        """Seconds per step of each of `works`, which are of one group."""
        model, shape = self.model_and_input(works[0])
        if works[0]["kind"] == "conv":
            seconds = seconds * len(works) / TABLE_SHARE
        command = [self.path, "bench", "--model", model, "--input", "x".join(map(str, shape))]
        command += ["--classes", str(works[0].get("classes", 2)), "--kernels", "direct", "--optimizer", "sgd"]
        command += ["--batch", str(works[0]["batch"]), "--seconds", str(seconds), "--json"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
        report = json.loads(done.stdout)
        expected = PARAMETERS.get(works[0].get("model"), report["parameters"])
        if report["parameters"] != expected:
            raise RuntimeError(f"{works[0]['id']}: {report['parameters']} parameters, not {expected}")
        self.peaks.append(report["peak_gflops"])
        return [figure(report, work) for work in works]
