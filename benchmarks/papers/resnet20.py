"""Methods on the published ResNet-20 for CIFAR-10, all with the same number of epochs in total.

Each training counts: those with a penalty, those before the cut, and the one after it. Half of the parameters go.
Where every layer loses the same share, half of the multiply-accumulates go with them; methods that weigh the channels
of all layers against each other are cut to the same number of these, which takes half of the parameters as well.
Slimming alone goes far below half of the parameters then, so it is measured at both. `backward` is `hsq-backward`
without the penalty: what a cut by the loss of training images gives by itself. `filter-l1-taught` is `filter-l1`,
fine-tuned with the whole network as its teacher (T = 4, weight 0.9).
"""

from __future__ import annotations

from typing import Any

import bench

EPOCHS = {"short": 4, "full": 100}
# What `filter-l1` takes of the multiply-accumulates when half of the parameters go.
EQUAL_MACS = {"of": "macs", "ratio": 0.4977}
SEEDS = range(3)
CONTROL, TAUGHT = "filter-l1", "filter-l1-taught"
PAPERS = {
    "filter-l1": "ResNet-56: 93.04 → 93.06 at 72.4 % of the MACs (Li 2017, table 1)",
    "filter-l1-taught": "",
    "fpgm": "ResNet-20: 92.20 → 90.44 at 46.0 % of the MACs (He 2019, table 1)",
    "sfp": "ResNet-20: 92.20 → 90.83 at 57.8 % of the MACs (He 2018)",
    "hrank": "ResNet-56: 93.26 → 93.17 at 50.0 % of the MACs (Lin 2020)",
    "lasso-channel": "ResNet-56: 92.8 → 91.8 at 50 % of the MACs (He 2017)",
    "backward": "",
    "slimming": "ResNet-164: 94.58 → 94.73 at 55.1 % of the MACs (Liu 2017, table 1)",
    "slimming-macs": "",
    "hsq-backward": "ResNet-20: −0.31 points at 54 % of the parameters (BonsaiNet 2022, §3.2.3)",
    "epruning": "ResNet-18: 92.81 → 90.96 at 49.66 % of the parameters (EPruning 2021, table 1)",
}
TRAINING = {
    "batch_size": 128,
    "learning_rate": 0.02,
    "nesterov": True,
    "weight_decay": 2e-4,
    "precision": "bfloat16",
}


def methods(schedule: str) -> dict[str, dict[str, Any]]:
    """Returns for each method what its recipe says beyond the common."""
    total = EPOCHS[schedule]
    half = total // 2
    # Strength times epochs is what shrinks weights: few epochs need more of it.
    slimming, hierarchical = 5e-3 / half, 6e-6 / half
    sparse = {**TRAINING, "epochs": half, "learning_rate": 0.01}
    return {
        "filter-l1": {"prune": {"method": "filter-l1"}},
        "filter-l1-taught": {
            "prune": {"method": "filter-l1"},
            "retrain": {"distill": {"temperature": 4.0, "weight": 0.9}},
        },
        "fpgm": {"prune": {"method": "fpgm"}},
        "sfp": {"prune": {"method": "filter-l2", "schedule": {"name": "soft", "options": {"epochs": half}}}},
        "hrank": {"prune": {"method": "hrank", "samples": 500}},
        "lasso-channel": {"prune": {"method": "lasso-channel", "samples": 512}},
        "backward": {"prune": {"method": "backward-selection", **EQUAL_MACS}},
        "slimming": {
            "sparsify": {**sparse, "regularizer": {"name": "slimming", "strength": slimming}},
            "prune": {"method": "bn-scale", "scope": "global"},
        },
        "slimming-macs": {
            "sparsify": {**sparse, "regularizer": {"name": "slimming", "strength": slimming}},
            "prune": {"method": "bn-scale", "scope": "global", **EQUAL_MACS},
        },
        "hsq-backward": {
            "sparsify": {**sparse, "regularizer": {"name": "hsq-gl12", "strength": hierarchical}},
            "prune": {"method": "backward-selection", **EQUAL_MACS},
        },
        "epruning": {
            "prune": {
                "method": "epruning",
                "options": {"epochs": half, "explore_epochs": max(1, half // 2)},
                **EQUAL_MACS,
            },
        },
    }


def line(method: str) -> str:
    """Returns the line of the table."""
    return f"ResNet-20, {method}"


def unit(schedule: str, method: str, seed: int) -> bench.Unit:
    """Returns one method with one seed."""
    own = methods(schedule)[method]
    before = own["sparsify"]["epochs"] if "sparsify" in own else own["prune"].get("options", {}).get("epochs", 0)
    before += own["prune"].get("schedule", {}).get("options", {}).get("epochs", 0)
    recipe = {
        "seed": seed,
        "model": {"network": "resnet20", "checkpoint": "checkpoints/resnet20-cifar10.safetensors"},
        "data": {
            "source": "cifar-10",
            "validation": 0.1,
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
            "augment": ["crop", "flip"],
        },
        **own,
        "prune": {"of": "parameters", "ratio": 0.5, **own["prune"], "couple": False},
        "retrain": {**TRAINING, "epochs": EPOCHS[schedule] - before, **own.get("retrain", {})},
    }
    search = method.endswith("backward")
    after = f"slimming-{seed}" if method == "slimming-macs" else None
    return bench.Unit(f"{method}-{seed}", line(method), recipe, PAPERS[method], after=after, long_search=search)


def plan(schedule: str, rows: list[bench.Row]) -> list[bench.Unit]:
    """Every method once; then more seeds for the control, and for the best three on the validation images."""
    every = [method for method in methods(schedule) if method not in (TAUGHT, "slimming-macs")]
    units = [unit(schedule, method, 0) for method in every]
    best = bench.best([row for row in rows if row["seed"] == 0], [found.setting for found in units], 3)
    units += [unit(schedule, TAUGHT, 0)]
    units += [unit(schedule, method, seed) for seed in SEEDS[1:] for method in (CONTROL, TAUGHT)]
    chosen = [method for method in every if line(method) in best and method != CONTROL]
    units += [unit(schedule, method, seed) for seed in SEEDS[1:] for method in chosen]
    return [*units, unit(schedule, "slimming-macs", 0)]


PAPER = bench.Paper("resnet20", __doc__.splitlines()[0], plan)

if __name__ == "__main__":
    bench.main(PAPER)
