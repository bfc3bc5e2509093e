"""What is measured: groups of works. A work is one figure of each contestant; a group is what one call of `glasses bench` covers.

A work is a plain dictionary, sent to the workers as JSON:
    kind "step"   one training step of `model` on `batch` pictures of `input` [h, w, c] with `classes` classes
    kind "infer"  probabilities of `batch` pictures
    kind "conv"   one convolution, `pass` "forward", "backward_data" or "backward_weights", on `batch` inputs [h, w, c_in]
"""

FORWARD, DATA, WEIGHTS = "forward", "backward_data", "backward_weights"
PASSES = (FORWARD, DATA, WEIGHTS)
# No one wants the gradient of the pictures: a network's first convolution has only these.
FIRST_PASSES = (FORWARD, WEIGHTS)

# Rows a step in the table of layers of `glasses bench`.
CONV_BATCH = 16
# window, c_in, c_out, side of the square input, stride, passes
CONVS = [
    (5, 3, 16, 80, 1, FIRST_PASSES),
    (3, 16, 16, 80, 1, PASSES),
    (3, 16, 32, 80, 1, PASSES),
    (3, 32, 64, 40, 1, PASSES),
    (3, 64, 128, 20, 1, PASSES),
    (1, 64, 128, 20, 1, PASSES),
    (3, 32, 64, 40, 2, PASSES),
    (7, 3, 64, 224, 2, FIRST_PASSES),
]

# model, input, classes, batch, who takes part besides glasses
STEPS = [
    ("glasses", [80, 80, 3], 2, 16, ("torch", "tf")),
    ("glasses", [80, 80, 3], 2, 32, ("torch",)),
    ("glasses", [80, 80, 3], 2, 64, ("torch", "tf")),
    ("glasses-deep", [80, 80, 3], 2, 16, ("torch",)),
    ("mnist", [28, 28, 1], 10, 16, ("torch",)),
    ("resnet20", [32, 32, 3], 10, 64, ("torch",)),
    ("resnet18", [224, 224, 3], 1000, 16, ("torch",)),
]

# Batches at which the first of these networks predicts: images/s, and the latency of a single one.
INFERENCES = (32, 1)

# What each network must weigh on every side, or the comparison is not one.
PARAMETERS = {"glasses": 6_578_674, "resnet20": 272_474, "resnet18": 11_689_512}


def inference_works(step):
    """On the network of a step's work: `glasses bench` measures them along with it."""
    for batch in INFERENCES:
        yield step | {"kind": "infer", "batch": batch, "id": f"infer {step['model']} batch {batch}"}


def step_groups():
    for index, (model, shape, classes, batch, peers) in enumerate(STEPS):
        work = {"kind": "step", "model": model, "input": shape, "classes": classes, "batch": batch}
        work["id"] = f"step {model} batch {batch}"
        yield {"peers": peers, "works": [work, *(inference_works(work) if index == 0 else [])]}


def conv_groups():
    for window, c_in, c_out, side, stride, passes in CONVS:
        strided = f" stride {stride}" if stride > 1 else ""
        name = f"{window}x{window} {c_in}->{c_out}{strided} at {side}x{side}"
        work = {"kind": "conv", "name": name, "window": window, "input": [side, side, c_in], "c_out": c_out}
        work |= {"stride": stride, "batch": CONV_BATCH, "is_first": passes is FIRST_PASSES}
        yield {"peers": ("torch",), "works": [work | {"pass": p, "id": f"conv {name} {p}"} for p in passes]}


def groups(only):
    """Every group with the works whose id holds one of the strings of `only`; all of them when it is empty."""
    for group in [*step_groups(), *conv_groups()]:
        works = [work for work in group["works"] if not only or any(part in work["id"] for part in only)]
        if works:
            yield group | {"works": works}


def conv_flops(work):
    """Operations of one pass over the batch: a multiplication and an addition at every place of the window, padding included."""
    h, w, c_in = work["input"]
    h_out, w_out = -(-h // work["stride"]), -(-w // work["stride"])
    return 2 * work["batch"] * h_out * w_out * work["window"] ** 2 * c_in * work["c_out"]
