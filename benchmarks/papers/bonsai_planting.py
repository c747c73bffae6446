"""BonsaiNet (Mitsuno 2022), chapter 4, table 4.2: planting on CIFAR-10.

A teacher with 128 channels a layer, a first student with 8; 4 channels at a time go to the layer that lowers the loss
on the validation images most, taught by the teacher (λ = 0), chosen by the labels (λ = 1). 150 epochs each, rate
0.01, × 0.2 after 40, 80, 120; weight decay 5e-4, of planted channels 5e-5. Beside it students of a fixed width,
trained alone. The thesis names no augmentation; none is used. The short schedule takes a teacher of 64 channels, few
epochs, and half of the training images: the other half decides where to plant.
"""

from __future__ import annotations

from typing import Any

import bench

TEACHER = {"short": 64, "full": 128}
EPOCHS = {"short": {"teacher": 6, "student": 6, "planted": 1}, "full": {"teacher": 150, "student": 150, "planted": 150}}
# Width → the thesis' parameters and accuracy (cross-entropy).
STUDENTS = {8: "20.4K, 71.55 %", 16: "43.9K, 79.42 %", 32: "104.8K, 84.03 %"}
TEACHERS = {64: "282.0K, 86.83 %", 128: "857.5K, 88.10 %"}
SEEDS = {"short": range(1), "full": range(3)}
# The share of the teacher's parameters that a student must stay without: planting ends at 24K in the short schedule.
LARGEST = {"short": 1 - 24_000 / 281_994, "full": 1 - 48_000 / 857_482}


def common(schedule: str, seed: int, width: int, epochs: int) -> dict[str, Any]:
    """Returns a recipe up to the first training."""
    return {
        "seed": seed,
        "model": {"network": "planting-cnn", "arguments": {"channels": [width] * 5}},
        "data": {"source": "cifar-10", "validation": 0.5 if schedule == "short" else 0.1},
        "train": training(schedule, epochs),
    }


def training(schedule: str, epochs: int) -> dict[str, Any]:
    """Returns a training of the thesis; few epochs take a cosine in place of its three drops."""
    thesis = {"schedule": "multi-step", "milestones": [40 / 150, 80 / 150, 120 / 150], "gamma": 0.2}
    return {
        "epochs": epochs,
        "batch_size": 128,
        "learning_rate": 0.01,
        "weight_decay": 5e-4,
        "precision": "bfloat16",
        **({"schedule": "cosine"} if schedule == "short" else thesis),
    }


def plan(schedule: str, _rows: list[bench.Row]) -> list[bench.Unit]:
    """The teacher, students of fixed width, and the planted one."""
    epochs, wide = EPOCHS[schedule], TEACHER[schedule]
    units = []
    for seed in SEEDS[schedule]:
        whole = common(schedule, seed, wide, epochs["teacher"])
        teacher = f"teacher-{seed}"
        units.append(bench.Unit(teacher, f"teacher, {wide} channels a layer", whole, TEACHERS[wide], until="train"))
        units += [
            bench.Unit(
                f"student{width}-{seed}",
                f"student, {width} channels a layer",
                common(schedule, seed, width, epochs["student"]),
                figure,
                until="train",
            )
            for width, figure in STUDENTS.items()
        ]
        planting = {
            "initial_epochs": epochs["student"],
            "epochs": epochs["planted"],
            "initial": 8,
            "planted": 4,
            "groups": 5,
        }
        recipe = {
            **whole,
            "prune": {
                "method": "planting",
                "of": "parameters",
                "ratio": round(LARGEST[schedule], 4),
                "exclude": ["fc2"],
                "options": planting,
            },
            "retrain": {**training(schedule, epochs["planted"]), "epochs": 0},
        }
        units.append(bench.Unit(f"planting-{seed}", "planting", recipe, "40.6K, 84.35 %", after=teacher))
    return units


PAPER = bench.Paper("bonsai_planting", __doc__.splitlines()[0], plan)

if __name__ == "__main__":
    bench.main(PAPER)
