"""SFP (He 2018), FPGM (He 2019) and HRank (Lin 2020) on ResNet-56 and CIFAR-10, from the published weights.

SFP and FPGM train for 200 epochs, HRank for 30 after each layer that it cuts. The shares of multiply-accumulates are
theirs; only channels inside blocks go. SFP prunes while it trains: half of its epochs here, the other half after the
cut.
"""

from __future__ import annotations

from typing import Any

import bench

EPOCHS = {"short": 2, "full": 200}
SEEDS = {"short": range(1), "full": range(3)}


def methods(schedule: str) -> dict[str, tuple[dict[str, Any], str]]:
    """Returns for each method its [prune], and what the paper reports."""
    soft = {"name": "soft", "options": {"epochs": EPOCHS[schedule] // 2}}
    return {
        "reference": ({}, "93.59 % (SFP), 93.26 % (HRank)"),
        "sfp": ({"method": "filter-l2", "ratio": 0.526, "schedule": soft}, "93.59 → 93.35 % at −52.6 % of the MACs"),
        "fpgm": ({"method": "fpgm", "ratio": 0.526}, "93.59 → 93.49 % at −52.6 % of the MACs"),
        "hrank": ({"method": "hrank", "ratio": 0.5, "samples": 500}, "93.26 → 93.17 % at −50.0 % of the MACs"),
        "hrank-far": ({"method": "hrank", "ratio": 0.741, "samples": 500}, "93.26 → 90.72 % at −74.1 % of the MACs"),
    }


def plan(schedule: str, _rows: list[bench.Row]) -> list[bench.Unit]:
    """The published network, then each cut."""
    units = []
    for seed in SEEDS[schedule]:
        for method, (cut, paper) in methods(schedule).items():
            before = cut.get("schedule", {}).get("options", {}).get("epochs", 0)
            recipe = {
                "seed": seed,
                "model": {"network": "resnet56", "checkpoint": "checkpoints/resnet56-cifar10.safetensors"},
                "data": {
                    "source": "cifar-10",
                    "validation": 0.1,
                    "mean": [0.485, 0.456, 0.406],
                    "std": [0.229, 0.224, 0.225],
                    "augment": ["crop", "flip"],
                },
            }
            if method == "reference":
                if seed == 0:
                    units.append(bench.Unit("reference", "ResNet-56, as published", recipe, paper, until="train"))
                continue
            recipe["prune"] = {"of": "macs", "couple": False, **cut}
            recipe["retrain"] = {
                "epochs": EPOCHS[schedule] - before,
                "batch_size": 128,
                "learning_rate": 0.02,
                "nesterov": True,
                "weight_decay": 2e-4,
                "precision": "bfloat16",
            }
            units.append(bench.Unit(f"{method}-{seed}", f"ResNet-56, {method}", recipe, paper))
    return units


PAPER = bench.Paper("resnet56", __doc__.splitlines()[0], plan)

if __name__ == "__main__":
    bench.main(PAPER)
