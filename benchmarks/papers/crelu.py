"""CReLU (Shang 2016), table 1 and table 2: VGG on CIFAR-10 with both phases of its first convolutions.

The paper's VGG (dropout, BatchNorm) trains with full and, for the claim that half the filters do, with half as many.
Here VGG14 with BatchNorm. The short schedule takes a quarter of the width and few epochs.
"""

from __future__ import annotations

from typing import Any

import bench

WIDTH = {"short": 16, "full": 64}
EPOCHS = {"short": 6, "full": 200}
SEEDS = {"short": range(2), "full": range(3)}
EVERY = tuple(range(1, 13))
# Name → layers with CReLU, whether they have half of the filters, the paper's error.
VARIANTS: dict[str, tuple[tuple[int, ...], bool, str]] = {
    "baseline": ((), False, "93.65 % (6.35 % error)"),
    "conv 1": ((1,), False, "93.82 % (6.18 % error)"),
    "conv 1, 3": ((1, 3), False, "94.06 % (5.94 % error)"),
    "conv 1, 3, 5": ((1, 3, 5), False, "93.94 % (6.06 % error)"),
    "all but the last, half the filters": (EVERY, True, "another network: 90.83 → 91.63 % with half the parameters"),
}


def plan(schedule: str, _rows: list[bench.Row]) -> list[bench.Unit]:
    """Each variant with each seed."""
    units = []
    for seed in SEEDS[schedule]:
        for name, (layers, half, paper) in VARIANTS.items():
            arguments: dict[str, Any] = {"width": WIDTH[schedule], "layers": list(layers), "half": half}
            recipe = {
                "seed": seed,
                "model": {"network": "crelu_vgg.py:build", "arguments": arguments},
                "data": {"source": "cifar-10", "validation": 0.1, "augment": ["crop", "flip"]},
                "train": {
                    "epochs": EPOCHS[schedule],
                    "batch_size": 128,
                    "learning_rate": 0.1,
                    "nesterov": True,
                    "weight_decay": 5e-4,
                    "warmup_epochs": 1.0,
                    "precision": "bfloat16",
                },
            }
            short = name.replace(", ", "-").replace(" ", "-")
            units.append(bench.Unit(f"{short}-{seed}", f"VGG14, CReLU: {name}", recipe, paper, until="train"))
    return units


PAPER = bench.Paper("crelu", __doc__.splitlines()[0], plan)

if __name__ == "__main__":
    bench.main(PAPER)
