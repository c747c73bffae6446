"""EPruning (Salehinejad & Valaee 2021), table 1(a): networks that train while a population of sub-networks evolves.

The paper trains for 200 epochs, the first 100 with the evolution (S = 8, P = 0.5), batches of 128, Adadelta; the
share of parameters that is left is whatever evolves. Here SGD, as there is no Adadelta. The short schedule starts
from the published ResNet-20: one epoch with the evolution, one without, then two of the cut network.
"""

from __future__ import annotations

import bench

NETWORKS = {
    "short": {"resnet20": "ResNet-18: 92.81 → 90.96 % at 49.66 % of the parameters"},
    "full": {
        "resnet20": "ResNet-18: 92.81 → 90.96 % at 49.66 % of the parameters",
        "squeezenet1.1": "81.49 → 76.85 % at 52.35 %",
        "alexnet": "84.32 → 74.66 % at 77.36 %",
    },
}
EPOCHS = {"short": (2, 1, 2), "full": (200, 100, 0)}  # of the search, with the evolution, after the cut
SEEDS = {"short": range(1), "full": range(5)}
CHECKPOINT = "checkpoints/resnet20-cifar10.safetensors"


def plan(schedule: str, _rows: list[bench.Row]) -> list[bench.Unit]:
    """The plainly trained network where the weights are not given, then EPruning."""
    total, explore, after = EPOCHS[schedule]
    training = {
        "batch_size": 128,
        "learning_rate": 0.02 if schedule == "short" else 0.1,
        "nesterov": True,
        "weight_decay": 2e-4,
        "precision": "bfloat16",
    }
    units = []
    for network, paper in NETWORKS[schedule].items():
        for seed in SEEDS[schedule]:
            published = {"model": {"network": network, "checkpoint": CHECKPOINT}}
            fresh = {"model": {"network": network}, "train": {**training, "epochs": total}}
            common = {
                "seed": seed,
                **(published if schedule == "short" else fresh),
                "data": {
                    "source": "cifar-10",
                    "validation": 0.1,
                    "mean": [0.485, 0.456, 0.406],
                    "std": [0.229, 0.224, 0.225],
                    "augment": ["crop", "flip"],
                },
            }
            reference = f"{network}-reference-{seed}"
            units.append(bench.Unit(reference, f"{network}, reference", common, paper.split(" →")[0], until="train"))
            # The paper's search starts from fresh weights, and is all the training there is.
            start = {} if schedule == "short" else {"train": {**training, "epochs": 0}}
            options = {"epochs": total, "explore_epochs": explore, "enforce": False}
            recipe = {
                **common,
                **start,
                "prune": {"method": "epruning", "couple": False, "options": options},
                "retrain": {**training, "epochs": after},
            }
            units.append(bench.Unit(f"{network}-epruning-{seed}", f"{network}, EPruning", recipe, paper))
    return units


PAPER = bench.Paper("epruning", __doc__.splitlines()[0], plan)

if __name__ == "__main__":
    bench.main(PAPER)
