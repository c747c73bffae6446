"""What came of a file, in a process of its own: `python compare.py BEFORE AFTER` prints counts and differences."""

import json
import sys

import numpy as np
from weights import channel_pairs, load, weight_entries

from compress.onnx_io.cost import onnx_cost
from compress.onnx_io.session import random_inputs, session

SEEDS = (0, 1)
SIZES = (64, 512, 16)  # of free axes that are not the batch


def fitting(running, model) -> int:
    """Returns the first of `SIZES` that a model takes."""
    for size in SIZES:
        try:
            running.run(None, random_inputs(model, 0, default=size))
        except Exception:  # noqa: BLE001 - the runtime's errors have no base class; the next size is tried
            continue
        return size
    raise SystemExit(f"the original takes none of the sizes {SIZES} for its free axes")


def main() -> None:
    before, after = (load(path) for path in sys.argv[1:])
    first, second = session(before.SerializeToString()), session(after.SerializeToString())
    absolute = relative = 0.0
    size = fitting(first, before)
    for seed in SEEDS:
        inputs = random_inputs(before, seed, default=size)
        for a, b in zip(first.run(None, inputs), second.run(None, inputs), strict=True):
            largest = max(1.0, float(np.abs(a).max(initial=0)))
            difference = float(np.abs(a.astype(np.float64) - b).max(initial=0)) if a.shape == b.shape else np.inf
            absolute, relative = max(absolute, difference), max(relative, difference / largest)
    figures = {"weights": weight_entries(after), "pairs": channel_pairs(after), "params": onnx_cost(after).parameters}
    sys.stdout.write(json.dumps({**figures, "max_abs_diff": absolute, "max_rel_diff": relative}) + "\n")


if __name__ == "__main__":
    main()
