"""How much faster backward selection is than the naive algorithm, on a published ResNet-20, order compared.

    python benchmarks/backward_selection.py --checkpoint resnet20-cifar10.safetensors --output backward_selection.json

The weights are those of akamaster/pytorch_resnet_cifar10; CIFAR-10 is found as any recipe finds it (COMPRESS_DATA).
Channels inside blocks are candidates, 128 training images are the samples, one thread. The naive algorithm costs the
same for each candidate in every round: after each of our rounds a few of its candidates are timed, so that both see the
same load, and the ratio is that of the sums (processor seconds). Afterwards some of its rounds, early and late,
run in full, from the state that ours was in, to compare the choice.
"""

import argparse
import copy
import os
import platform
import time
from pathlib import Path

import numpy as np
import torch

from compress.architectures import build_network
from compress.architectures.spec import NetworkSpec
from compress.artifact import write_json
from compress.data import load_dataset
from compress.prune import ChannelMask, PruningProblem
from compress.prune.problem import Samples, sample_losses
from compress.prune.search.backward_selection import BackwardSelection
from compress.recipe import DataSettings, PruneSettings
from compress.train.weights import put_weights, read_tensors

SAMPLES = 128
INPUT_SHAPE = (3, 32, 32)


def load(checkpoint: Path) -> PruningProblem:
    network = build_network(NetworkSpec("resnet20", {}, INPUT_SHAPE))
    put_weights(network, read_tensors(checkpoint, "checkpoint")[0], str(checkpoint))
    settings = DataSettings(source="cifar-10", mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
    split = load_dataset(settings, base=Path(), seed=0).train.take(SAMPLES, np.random.default_rng(0))
    images, labels = next(iter(split.batches(SAMPLES)))
    samples = Samples(torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(np.asarray(labels)))
    return PruningProblem.of(network.eval(), INPUT_SHAPE, samples, 0, couple=False)


def naive_loss(problem: PruningProblem, keep: np.ndarray, batch: int) -> float:
    network = copy.deepcopy(problem.network)
    ChannelMask(problem.groups, keep).apply(network)
    images, labels = problem.samples.images, problem.samples.labels
    parts = [slice(first, first + batch) for first in range(0, len(images), batch)]
    return float(sum(sample_losses(network, images[part], labels[part]).sum() for part in parts)) / len(images)


def naive_round(problem: PruningProblem, keep: np.ndarray, batch: int) -> tuple[int, int]:
    """Returns the unit that goes, and how many candidates there were."""
    losses = {}
    for unit in np.flatnonzero(keep & problem.prunable):
        without = keep.copy()
        without[unit] = False
        losses[int(unit)] = naive_loss(problem, without, batch)
    return min(losses, key=lambda unit: (losses[unit], unit)), len(losses)


def timed(work):
    start = time.process_time()
    result = work()
    return result, time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--removals", type=int, default=20)
    parser.add_argument("--naive-rounds", type=int, default=4)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    problem = load(arguments.checkpoint)
    everything = np.ones(problem.groups.size, dtype=bool)
    # The naive algorithm gets the batch that suits it best.
    speeds = {b: min(timed(lambda b=b: naive_loss(problem, everything, b))[1] for _ in range(3)) for b in (16, SAMPLES)}
    batch = min(speeds, key=speeds.get)
    our_seconds: list[float] = []
    naive_seconds: list[float] = []  # for each candidate
    clock = [time.process_time()]

    def after_each_removal(share: float, text: str) -> None:
        our_seconds.append(time.process_time() - clock[0])
        naive_seconds.append(timed(lambda: [naive_loss(problem, everything, batch) for _ in range(5)])[1] / 5)
        print(f"{text}, {our_seconds[-1]:.2f} s, naive {naive_seconds[-1]:.3f} s a candidate", flush=True)
        clock[0] = time.process_time()

    settings = PruneSettings(ratio=(arguments.removals - 0.5) / problem.groups.size, of="channels")
    found = BackwardSelection().choose(problem, settings, progress=after_each_removal)
    rounds = sorted(set(np.linspace(0, arguments.removals - 1, arguments.naive_rounds).astype(int).tolist()))
    naive: dict[int, int] = {}
    for index in rounds:
        keep = everything.copy()
        keep[list(found.details["order"][:index])] = False
        naive[index], _ = naive_round(problem, keep, batch)
        print(f"naive round {index + 1}: unit {naive[index]}, ours {found.details['order'][index]}", flush=True)
    tried = problem.prunable.sum() - np.arange(len(found.details["order"]))
    result = {
        "network": "resnet20, published CIFAR-10 weights, channels inside blocks",
        "samples": SAMPLES,
        "removals": len(found.details["order"]),
        "candidates": found.details["evaluations"],
        "order": list(found.details["order"]),
        "losses": list(found.details["losses"]),
        "naive_choices": {str(index + 1): unit for index, unit in naive.items()},
        "choices_identical": all(found.details["order"][index] == unit for index, unit in naive.items()),
        "naive_batch": batch,
        "seconds": our_seconds,
        "naive_seconds_per_candidate": naive_seconds,
        "ratio": float((tried * naive_seconds).sum() / sum(our_seconds)),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, 1 thread, torch {torch.__version__}",
    }
    write_json(arguments.output, result)
    print(result)


if __name__ == "__main__":
    main()
