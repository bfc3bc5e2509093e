"""PyTorch, TensorFlow and glasses at the same work, each on the same single core, taking turns.

    python3 -m venv ~/peers-venv                # anywhere outside the repository: it takes 8 GB
    ~/peers-venv/bin/pip install torch tensorflow h5py numpy
    cargo build --release
    ~/peers-venv/bin/python benches/peers/bench.py --json peers.json > peers.md

Each peer is one process that lives through the whole run and gets one work at a time; glasses is started anew for each group of
works. For each work and round all contestants follow one another, in an order that rotates, so that noise of a shared machine hits
all alike. Only one is ever active. README.md in this folder says what is in a figure, and what was done for the peers' sake.
"""

import argparse
import json
import os
import platform
import subprocess
import sys

from bench_glasses import Glasses
from bench_report import markdown, summarise
from bench_works import PARAMETERS, groups

HERE = os.path.dirname(os.path.abspath(__file__))
REPOSITORY = os.path.dirname(os.path.dirname(HERE))
# name -> worker, what its works carry besides
PEERS = {
    "torch nchw": ("torch", {"layout": "nchw"}),
    "torch channels_last": ("torch", {"layout": "channels_last"}),
    "tf": ("tf", {}),
}
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
# TensorFlow leaves oneDNN off on processors without AVX-512, where it makes a step up to twice as fast.
QUIET_TF = {"TF_ENABLE_ONEDNN_OPTS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
# The C library gives big blocks back at once, and the next step faults every page in again: a third of PyTorch's speed at batch 64.
KEEP_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(10**11),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}


def peer_environment(stock_malloc=False):
    return os.environ | ONE_THREAD | QUIET_TF | ({} if stock_malloc else KEEP_MEMORY)


class Worker:
    """A peer's process."""

    def __init__(self, name, stock_malloc, verbose):
        environment = peer_environment(stock_malloc)
        command = [sys.executable, "-B", os.path.join(HERE, f"bench_{name}.py")]
        errors = None if verbose else subprocess.DEVNULL
        self.name = name
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        self.versions = self.read()

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the worker {self.name} died; --verbose shows what it said")
        return json.loads(line)

    def measure(self, work, seconds):
        print(json.dumps(work | {"seconds": seconds}), file=self.process.stdin, flush=True)
        answer = self.read()
        if "error" in answer:
            raise RuntimeError(f"{self.name}, {work['id']}: {answer['error']}")
        expected = PARAMETERS.get(work.get("model"), answer.get("parameters"))
        if answer.get("parameters") != expected:
            raise RuntimeError(f"{self.name}, {work['id']}: {answer['parameters']} parameters, not {expected}")
        return answer["seconds"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def turn(group, contestant, workers, glasses, seconds):
    """Seconds per step of each work of the group."""
    if contestant == "glasses":
        return glasses.measure(group["works"], seconds)
    worker, extra = PEERS[contestant]
    return [workers[worker].measure(work | extra, seconds) for work in group["works"]]


def rounds_of(group, workers, glasses, options):
    """A table of figures {work id: {contestant: [seconds per step of each round]}}."""
    contestants = [name for name, (worker, _) in PEERS.items() if worker in group["peers"] and worker in workers]
    contestants += ["glasses"] if glasses else []
    figures = {work["id"]: {name: [] for name in contestants} for work in group["works"]}
    for index in range(options.rounds):
        first = index % max(len(contestants), 1)
        for name in contestants[first:] + contestants[:first]:
            for work, seconds in zip(group["works"], turn(group, name, workers, glasses, options.seconds)):
                figures[work["id"]][name].append(seconds)
    return figures


def cpu_model():
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"


def circumstances(workers, glasses, options):
    """What a reader needs to judge the figures."""
    commit = subprocess.run(["git", "-C", REPOSITORY, "describe", "--always", "--dirty"], capture_output=True, text=True)
    facts = {"CPU": f"{cpu_model()}, {os.cpu_count()} cores, core {options.core} used"}
    facts |= {"kernel": platform.platform(), "Python": platform.python_version()}
    for worker in workers.values():
        facts |= worker.versions
    if glasses:
        facts["glasses"] = f"{glasses.version}, {os.path.abspath(options.glasses)}; this repository at {commit.stdout.strip()}"
    facts["rounds"] = f"{options.rounds} of {options.seconds:g} s a figure"
    facts["memory of the peers"] = "stock malloc" if options.stock_malloc else "freed blocks kept, huge pages"
    return facts


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="time for one figure of one contestant in one round")
    parser.add_argument("--core", type=int, default=0, help="the core that everything runs on")
    parser.add_argument("--only", nargs="*", default=[], help="works whose id holds one of these, as 'step glasses' or '5x5'")
    parser.add_argument("--peers", nargs="*", choices=["torch", "tf", "glasses"], default=["torch", "tf", "glasses"])
    parser.add_argument("--glasses", default=os.path.join(REPOSITORY, "target/release/glasses"), help="the program")
    parser.add_argument("--json", help="file for everything that was measured")
    parser.add_argument("--stock-malloc", action="store_true", help="run the peers without the settings that keep freed memory")
    parser.add_argument("--verbose", action="store_true", help="show what the workers print")
    parser.add_argument("--list", action="store_true", help="list the works and stop")
    return parser.parse_args()


def run(options):
    chosen = list(groups(options.only))
    if options.list:
        print(*(work["id"] for group in chosen for work in group["works"]), sep="\n")
        return
    os.sched_setaffinity(0, {options.core})  # all that is started from here on inherits it
    needed = {name for group in chosen for name in group["peers"]} & set(options.peers)
    workers = {name: Worker(name, options.stock_malloc, options.verbose) for name in sorted(needed)}
    glasses = Glasses(options.glasses) if "glasses" in options.peers else None
    facts = circumstances(workers, glasses, options)
    results = []
    for number, group in enumerate(chosen, 1):
        figures = rounds_of(group, workers, glasses, options)
        results += [summarise(work, figures[work["id"]]) for work in group["works"]]
        print(f"{number}/{len(chosen)} {group['works'][0]['id']}", file=sys.stderr, flush=True)
    for worker in workers.values():
        worker.close()
    peaks = glasses.peaks if glasses else []
    print(markdown(facts, results, peaks))
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"circumstances": facts, "peak_gflops": peaks, "figures": results}, file, indent=1)


if __name__ == "__main__":
    run(parse_options())
