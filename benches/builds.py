#!/usr/bin/env python3
"""Two builds of glasses against each other, in turns: `glasses bench` of one, then of the other, pair after pair.

    benches/builds.py OLD NEW [--pairs 10] [--seconds 0.1] [--models mnist,spiral] [--json]

A figure's ratio is NEW / OLD in speed within a pair; printed are median, least and greatest over the pairs. A layer's passes
that take less than 20 microseconds at batch 16 are left out: the clock decides those. Needs nothing but Python 3.
"""

import argparse
import json
import statistics
import subprocess

# Every network of the zoo on the pictures that it is meant for.
WORKS = [
    ["--model", "glasses", "--input", "80x80x3", "--batch", "16,64"],
    ["--model", "glasses-deep", "--input", "80x80x3", "--batch", "16,64"],
    ["--model", "glasses-wide", "--input", "80x80x3", "--batch", "16,64"],
    ["--model", "mnist", "--input", "28x28x1", "--classes", "10", "--batch", "16,64"],
    ["--model", "spiral", "--input", "2", "--classes", "3", "--batch", "16,64"],
]
LEAST_MS = 0.02


def figures(glasses: str, work: list, seconds: str) -> dict:
    """Names to speeds: layers' passes in GFLOP/s, steps and inference in images/s."""
    command = [glasses, "bench", "--json", "--kernels", "direct", "--seconds", seconds, *work]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    speeds = {}
    for index, layer in enumerate(found["layers"]):
        for name in ("forward", "backward_data", "backward_weights"):
            timed = layer[name]
            if timed and timed["ms"] >= LEAST_MS:
                speeds[f"{found['model']}, layer {index} {layer['layer']}, {name}"] = timed["gflops"]
    for step in found["steps"]:
        speeds[f"{found['model']}, step of batch {step['batch']}"] = step["images_per_sec"]
    inference = found["inference"]
    speeds[f"{found['model']}, inference of batch {inference['batch']}"] = inference["images_per_sec"]
    speeds[f"{found['model']}, inference of batch 1"] = 1000 / inference["latency_ms"]
    return speeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--seconds", default="0.1", help="of a figure")
    parser.add_argument("--models", default=",".join(work[1] for work in WORKS))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    ratios = {}
    for pair in range(options.pairs):
        for work in (work for work in WORKS if work[1] in options.models.split(",")):
            # Who begins takes turns, too.
            both = [options.old, options.new]
            one, two = (figures(glasses, work, options.seconds) for glasses in (both if pair % 2 == 0 else both[::-1]))
            old, new = (one, two) if pair % 2 == 0 else (two, one)
            for name in old.keys() & new.keys():
                ratios.setdefault(name, []).append(new[name] / old[name])
    rows = {name: (statistics.median(all), min(all), max(all)) for name, all in sorted(ratios.items())}
    if options.json:
        print(json.dumps({name: dict(zip(("median", "least", "greatest"), row)) for name, row in rows.items()}, indent=1))
        return
    print(f"speed, new / old, medians of {options.pairs} pairs (least–greatest)")
    for name, (median, least, greatest) in rows.items():
        print(f"{median:6.3f} ({least:.2f}–{greatest:.2f})  {name}")
    print(f"{statistics.median(row[0] for row in rows.values()):6.3f}  median of the {len(rows)} figures")


if __name__ == "__main__":
    main()
