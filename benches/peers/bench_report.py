"""Figures as medians, spreads and ratios, in Markdown."""

import statistics

from bench_works import conv_flops

LAYOUTS = ("torch nchw", "torch channels_last")
NAMES = {"torch nchw": "PyTorch NCHW", "torch channels_last": "PyTorch channels_last", "tf": "TensorFlow", "glasses": "glasses"}
PASS_NAMES = {"forward": "forward", "backward_data": "backward, data", "backward_weights": "backward, weights"}


def unit(work):
    if work["kind"] == "conv":
        return "GFLOP/s"
    return "ms" if (work["kind"], work["batch"]) == ("infer", 1) else "images/s"


def value(work, seconds):
    """What is shown of a step that took `seconds`."""
    if unit(work) == "GFLOP/s":
        return conv_flops(work) / seconds / 1e9
    return seconds * 1e3 if unit(work) == "ms" else work["batch"] / seconds


def spread(numbers):
    return {"median": statistics.median(numbers), "min": min(numbers), "max": max(numbers)}


def best_layout(seconds):
    """PyTorch's faster layout by its median; None without PyTorch."""
    layouts = [name for name in LAYOUTS if seconds.get(name)]
    return min(layouts, key=lambda name: statistics.median(seconds[name]), default=None)


def speedup(seconds, peer):
    """How many times as fast glasses is: of each round, as its noise is common to both."""
    if not seconds.get(peer) or not seconds.get("glasses"):
        return None
    return spread([theirs / ours for theirs, ours in zip(seconds[peer], seconds["glasses"])])


def summarise(work, seconds):
    """All about one work; `seconds` per step by contestant, one a round."""
    best = best_layout(seconds)
    figures = {name: spread([value(work, s) for s in rounds]) for name, rounds in seconds.items()}
    ratios = {"torch": speedup(seconds, best), "tf": speedup(seconds, "tf")}
    return {"work": work, "unit": unit(work), "seconds": seconds, "figures": figures, "torch best": best, "speedup": ratios}


def shown(numbers, digits):
    if not numbers:
        return ""
    low, middle, high = (f"{numbers[key]:.{digits}f}" for key in ("min", "median", "max"))
    return f"{middle} ({low}..{high})"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def cells(result, names, digits=1):
    """The contestants' figures, the better of PyTorch's layouts in bold."""
    for name in names:
        cell = shown(result["figures"].get(name), digits)
        yield f"**{cell}**" if name == result["torch best"] else cell


def network_table(results, kind):
    head = ["work", "unit", *NAMES.values(), "glasses / best PyTorch", "glasses / TensorFlow"]
    rows = []
    for result in results:
        if result["work"]["kind"] == kind:
            name = f"{result['work']['model']}, batch {result['work']['batch']}"
            ratios = [shown(result["speedup"][peer], 2) for peer in ("torch", "tf")]
            rows.append([name, result["unit"], *cells(result, NAMES), *ratios])
    return table(head, rows) if rows else ""


def of_peak(figure, peak):
    return f"{100 * figure['median'] / peak:.0f} %" if figure and peak else ""


def conv_table(results, peak):
    names = [name for name in NAMES if name != "tf"]
    head = ["convolution", "pass", *(NAMES[name] for name in names), "PyTorch of peak", "glasses of peak", "glasses / best PyTorch"]
    rows = []
    for result in results:
        work, figures = result["work"], result["figures"]
        if work["kind"] == "conv":
            peaks = [of_peak(figures.get(name), peak) for name in (result["torch best"], "glasses")]
            name = f"{work['name']}, batch {work['batch']}"
            rows.append([name, PASS_NAMES[work["pass"]], *cells(result, names), *peaks, shown(result["speedup"]["torch"], 2)])
    return table(head, rows) if rows else ""


def markdown(facts, results, peaks):
    """The whole report."""
    peak = statistics.median(peaks) if peaks else None
    parts = ["\n".join(f"- {name}: {fact}" for name, fact in facts.items())]
    if peak:
        parts[0] += f"\n- peak of fused multiply-adds, one core (`glasses bench`): {shown(spread(peaks), 1)} GFLOP/s"
    parts.append(
        "Medians over the rounds (min..max); PyTorch's better layout in bold. Ratios are of speeds, above 1 glasses is faster: "
        "the median of the ratios of the rounds."
    )
    sections = [
        ("Training steps", network_table(results, "step")),
        ("Inference", network_table(results, "infer")),
        ("Single convolutions, GFLOP/s", conv_table(results, peak)),
    ]
    parts += [f"## {title}\n\n{text}" for title, text in sections if text]
    return "\n\n".join(parts)
