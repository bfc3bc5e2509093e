"""The loop of a peer's process: a work as a line of JSON comes in, seconds per step go out as another."""

import collections
import json
import os
import statistics
import sys
import time
import traceback

import numpy as np

# Pictures that a training run would have in memory; every step gathers its rows out of them.
POOL = 256
# Prepared works that stay alive: all of one convolution in both layouts. Older ones are dropped, networks are big.
KEPT = 6
WARM_UP = 2
LEAST = 3


def pictures(work):
    """Random pictures u8 [POOL, h, w, c] and their classes."""
    generator = np.random.default_rng(1)
    images = generator.integers(0, 256, (POOL, *work["input"]), dtype=np.uint8)
    return images, generator.integers(0, work["classes"], POOL)


def batches(batch):
    """Endlessly the rows of a next batch: those of shuffled epochs."""
    generator = np.random.default_rng(2)
    while True:
        order = generator.permutation(POOL)
        for start in range(0, POOL - batch + 1, batch):
            yield order[start : start + batch]


def seconds_per_step(step, seconds, least):
    """Median over the repetitions that fit into `seconds`, `least` at least, after a warm-up: other processes had the caches."""
    for _ in range(WARM_UP):
        step()
    times = []
    end = time.perf_counter() + seconds
    while len(times) < least or time.perf_counter() < end:
        begin = time.perf_counter()
        step()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def answer(line, prepare, prepared):
    """Measures the work of `line`; `prepare(work)` gives the step and what else is to be reported."""
    work = json.loads(line)
    # Ranks that step together want to know how many steps: `repetitions`, and no seconds.
    seconds, least = work.pop("seconds", 0), work.pop("repetitions", LEAST)
    key = json.dumps(work, sort_keys=True)
    if key not in prepared:
        prepared[key] = prepare(work)
        while len(prepared) > KEPT:
            prepared.popitem(last=False)
    step, notes = prepared[key]
    return notes | {"seconds": seconds_per_step(step, seconds, least)}


def serve(prepare, versions):
    """Says what runs here, then answers until standard input ends."""
    # Libraries may print: what they print must not land between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    print(json.dumps(versions), file=answers, flush=True)
    prepared = collections.OrderedDict()
    for line in sys.stdin:
        try:
            result = answer(line, prepare, prepared)
        except Exception:
            result = {"error": traceback.format_exc()}
        print(json.dumps(result), file=answers, flush=True)
