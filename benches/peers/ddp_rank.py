"""What the ranks of the data-parallel peers share: see ddp_torch.py and ddp_tf.py.

A rank is a process of its own, told who it is by RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, as torchrun would. Like the workers of
bench.py it gets works as lines of JSON, the same lines on every rank, and answers each: {"batch": rows a rank, "repetitions": steps}.
"""

import os
import sys

from bench import PARAMETERS, peer_environment

MODEL = {"model": "glasses", "input": [80, 80, 3], "classes": 2}


class Place:
    """Who this rank is."""

    def __init__(self):
        self.rank, self.size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        self.address, self.port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])


def settle():
    """Starts this process again with the settings of the peers (one thread, freed memory kept): the C library reads its own at the start."""
    wanted = peer_environment()
    if wanted != dict(os.environ):
        os.execve(sys.executable, [sys.executable, "-B", *sys.argv], wanted)


def check(parameters):
    if parameters != PARAMETERS["glasses"]:
        raise RuntimeError(f"{parameters} parameters, not {PARAMETERS['glasses']}")
    return {"parameters": parameters}
