"""Deep Compression (Han 2016), table 1: the LeNets pruned, their weights shared and Huffman-coded, on MNIST.

The paper prunes to 8 % of the weights in both (tables 2 and 3), shares 2^6 values a layer in LeNet-300-100, 2^8 in
the convolutions and 2^5 in the linear layers of LeNet-5, and codes steps between weights with 5 bits.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bench

from compress.coding.verb import pack_file
from compress.pipeline.standalone import export_file

KEPT = 0.08
# Network → bits of shared values (convolutions, linear layers), and the paper's figures.
NETWORKS = {
    "lenet-300-100": (6, 6, "98.36 → 98.42 %, 1,070 KB → 27 KB (40×)"),
    "lenet-5-caffe": (8, 5, "99.20 → 99.26 %, 1,720 KB → 44 KB (39×)"),
}
# Epochs: of the reference, between two of the three cuts, after the last, of the shared values.
EPOCHS = {
    "short": {"lenet-300-100": (10, 2, 6, 2), "lenet-5-caffe": (6, 1, 4, 1)},
    "full": {"lenet-300-100": (100, 20, 60, 20), "lenet-5-caffe": (100, 20, 60, 20)},
}
# Largest norm of the gradient; LeNet-5, whose convolutions have no activation, diverges without.
CLIP = {"lenet-300-100": {}, "lenet-5-caffe": {"gradient_clip": 1.0}}
SEEDS = range(3)


def training(epochs: int, rate: float) -> dict[str, Any]:
    """Returns a training by SGD with a rate that falls along a cosine."""
    return {"epochs": epochs, "batch_size": 100, "learning_rate": rate, "weight_decay": 1e-4}


def packed(folder: Path) -> bench.Row:
    """Returns what the packed file amounts to, layer by layer, beside the entropy that no code gets below."""
    export_file(folder / "shared.safetensors", folder / "shared.onnx")
    coded = pack_file(folder / "shared.onnx", folder / "shared.packed")
    figures = coded.to_dict()
    dense = 4 * _parameters(folder)
    return {
        "dense_bytes": dense,
        "packed_bytes": figures["packed_bytes"],
        "compression": round(dense / figures["packed_bytes"], 1),
        "rest_bytes": figures["rest_bytes"],
        "tensors": figures["tensors"],
    }


def _parameters(folder: Path) -> int:
    from compress.train.checkpoint import load_checkpoint

    model = load_checkpoint(folder / "trained.safetensors").model
    return sum(parameter.numel() for parameter in model.parameters())


def plan(schedule: str, _rows: list[bench.Row]) -> list[bench.Unit]:
    """For each network and seed the reference, then the compressed network."""
    units = []
    for network, (conv_bits, linear_bits, paper) in NETWORKS.items():
        first, between, last, shared = EPOCHS[schedule][network]
        clip = CLIP[network]
        for seed in SEEDS:
            common = {
                "seed": seed,
                "model": {"network": network},
                "data": {"source": "mnist", "validation": 0.1},
                "train": {**training(first, 0.05), **clip},
            }
            reference = f"{network}-reference-{seed}"
            figure = paper.split(" →")[0] + " %"
            units.append(bench.Unit(reference, f"{network}, reference", common, figure, until="train"))
            recipe = {
                **common,
                "prune": {
                    "method": "magnitude",
                    "ratio": 1 - KEPT,
                    "of": "parameters",
                    "scope": "global",
                    "schedule": {"name": "iterative", "options": {"rounds": 3, "epochs": between}},
                },
                "retrain": {**training(last, 0.05), **clip},
                "share": {**training(shared, 0.001), **clip, "conv_bits": conv_bits, "linear_bits": linear_bits},
            }
            units.append(
                bench.Unit(
                    f"{network}-compressed-{seed}",
                    f"{network}, pruned, shared and coded",
                    recipe,
                    paper,
                    until="share",
                    after=reference,
                    figures=packed,
                )
            )
    return units


PAPER = bench.Paper("deep_compression", __doc__.splitlines()[0], plan)

if __name__ == "__main__":
    bench.main(PAPER)
