"""SNIP (Lee 2019), table 1: connections of the LeNets pruned before training, on MNIST.

The paper trains by SGD with momentum 0.9, weight decay 5e-4, batches of 100 and a rate of 0.1 that drops tenfold
every 25,000 steps; a tenth of the training images is held out; sensitivity is measured on one batch of 100. The whole
LeNet-5-Caffe, whose convolutions have no activation, diverges at this rate unless its gradients are clipped. The
authors' code draws new weights after the pruning; here the sparse network trains those that it was chosen by.
"""

from __future__ import annotations

from typing import Any

import bench

# Network → shares of the weights that go, with the paper's error in per cent; 0 is the reference.
NETWORKS: dict[str, dict[float, float]] = {
    "lenet-300-100": {0.0: 1.7, 0.95: 1.6, 0.98: 2.4},
    "lenet-5-caffe": {0.0: 0.9, 0.98: 0.8, 0.99: 1.1},
}
EPOCHS = {"short": {"lenet-300-100": 12, "lenet-5-caffe": 8}, "full": {"lenet-300-100": 140, "lenet-5-caffe": 140}}
CLIP = {"lenet-300-100": None, "lenet-5-caffe": 1.0}  # largest norm of the gradient
SEEDS = range(3)


def training(epochs: int, clip: float | None) -> dict[str, Any]:
    """Returns the paper's training; its two drops of the rate come after thirds of the epochs, full or short."""
    return {
        "epochs": epochs,
        "batch_size": 100,
        "learning_rate": 0.1,
        "weight_decay": 5e-4,
        "schedule": "multi-step",
        **({} if clip is None else {"gradient_clip": clip}),
    }


def plan(schedule: str, _rows: list[bench.Row]) -> list[bench.Unit]:
    """For each network and seed the reference, then SNIP at the paper's two shares."""
    units = []
    for network, shares in NETWORKS.items():
        train = training(EPOCHS[schedule][network], CLIP[network])
        for seed in SEEDS:
            common = {
                "seed": seed,
                "model": {"network": network},
                "data": {"source": "mnist", "validation": 0.1},
                "train": train,
            }
            reference = f"{network}-reference-{seed}"
            for share, error in shares.items():
                paper = f"{100 - error:.1f} % ({error} % error)"
                if share == 0:
                    units.append(bench.Unit(reference, f"{network}, reference", common, paper, until="train"))
                    continue
                cut = {
                    "method": "snip",
                    "ratio": share,
                    "of": "parameters",
                    "scope": "global",
                    "samples": 100,
                    "schedule": {"name": "before-training"},
                }
                recipe = {**common, "prune": cut, "retrain": train}
                line = f"{network}, SNIP, {share:.0%} of the weights gone"
                units.append(bench.Unit(f"{network}-snip-{share}-{seed}", line, recipe, paper, after=reference))
    return units


PAPER = bench.Paper("snip_mnist", __doc__.splitlines()[0], plan)

if __name__ == "__main__":
    bench.main(PAPER)
