"""BonsaiNet (Mitsuno 2022), chapter 3: hsq-gl12, then backward selection, beside FPGM-mix, on CIFAR-10.

The thesis trains for 200 epochs (rate 0.1, × 0.2 after 60, 120, 160), then 100 with the penalty (0.01, × 0.1 after
each third), removes a share P of the channels by the loss of 128 training images, and trains the cut network from
scratch as the first one. λ is searched there between 1e-7 and 1e-1. The short schedule starts from the published
ResNet-20, takes two epochs with the penalty and fine-tunes for two: it tells how good the cuts are, not what training
from scratch gives.
"""

from __future__ import annotations

from typing import Any

import bench

PAPERS = {
    ("resnet20", "hsq-backward"): "54 % of the parameters: −0.31 points",
    ("vgg14-bn", "hsq-backward"): "15 % of the parameters: −0.53 points; above the baseline at 59 %",
    ("resnet20", "fpgm-mix"): "below the thesis' method at every P",
    ("vgg14-bn", "fpgm-mix"): "below the thesis' method at every P",
}
NETWORKS = {"short": ("resnet20",), "full": ("resnet20", "vgg14-bn")}
RATIOS = {"short": (0.3, 0.5), "full": tuple(round(0.1 * step, 1) for step in range(1, 10))}
SEEDS = {"short": range(1), "full": range(3)}
CHECKPOINT = "checkpoints/resnet20-cifar10.safetensors"


def trainings(schedule: str) -> dict[str, dict[str, Any]]:
    """Returns [train], [sparsify] and [retrain] without what belongs to a method."""
    if schedule == "short":
        common = {"batch_size": 128, "precision": "bfloat16", "weight_decay": 5e-4}
        return {
            "sparsify": {**common, "epochs": 2, "learning_rate": 0.01, "schedule": "multi-step"},
            "retrain": {**common, "epochs": 2, "learning_rate": 0.02},
        }
    common = {"batch_size": 128, "precision": "bfloat16", "weight_decay": 5e-4, "schedule": "multi-step"}
    whole = {**common, "epochs": 200, "learning_rate": 0.1, "milestones": [0.3, 0.6, 0.8], "gamma": 0.2}
    return {
        "train": whole,
        "sparsify": {**common, "epochs": 100, "learning_rate": 0.01},
        "retrain": {**whole, "weights": "from-scratch"},
    }


def unit(schedule: str, network: str, method: str, ratio: float, seed: int) -> bench.Unit:
    """Returns one cut."""
    stages = trainings(schedule)
    model = {"network": network} | ({"checkpoint": CHECKPOINT} if schedule == "short" else {})
    # Strength times epochs is what shrinks weights: few epochs need more of it.
    penalty = {"name": "hsq-gl12", "strength": 6e-6 / stages["sparsify"]["epochs"]}
    if method == "hsq-backward":
        cut = {"method": "backward-selection"}
        stages["sparsify"] = {**stages["sparsify"], "regularizer": penalty}
    else:
        cut = {"method": "fpgm-mix"}
        spared = stages.pop("sparsify")["epochs"]
        if schedule == "short":
            stages["retrain"] = {**stages["retrain"], "epochs": stages["retrain"]["epochs"] + spared}
    recipe = {
        "seed": seed,
        "model": model,
        "data": {
            "source": "cifar-10",
            "validation": 0.1,
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
            "augment": ["crop", "flip"],
        },
        **stages,
        "prune": {**cut, "of": "channels", "ratio": ratio, "couple": False},
    }
    return bench.Unit(
        f"{network}-{method}-{ratio}-{seed}",
        f"{network}, {method}, {ratio:.0%} of the channels gone",
        recipe,
        PAPERS[network, method],
        after=f"{network}-{method}-{RATIOS[schedule][0]}-{seed}",
        long_search=method == "hsq-backward",
    )


def plan(schedule: str, _rows: list[bench.Row]) -> list[bench.Unit]:
    """Both methods at each share, for each network and seed."""
    return [
        unit(schedule, network, method, ratio, seed)
        for seed in SEEDS[schedule]
        for network in NETWORKS[schedule]
        for ratio in RATIOS[schedule]
        for method in ("hsq-backward", "fpgm-mix")
    ]


PAPER = bench.Paper("bonsai_pruning", __doc__.splitlines()[0], plan)

if __name__ == "__main__":
    bench.main(PAPER)
