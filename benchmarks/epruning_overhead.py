"""What a training step of EPruning costs, over a plain one: both in turn, in one run, on the same batch.

    python benchmarks/epruning_overhead.py --network resnet20 --output benchmarks/epruning_overhead.json

A step while the states evolve measures the energy of every rival and trains the best state's network; one after they
have settled trains that network alone. Images are noise of CIFAR-10's shape: what they show costs nothing.
"""

import argparse
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from compress.architectures import build_network
from compress.architectures.spec import NetworkSpec
from compress.artifact import write_json
from compress.prune.problem import PruningProblem
from compress.prune.search.epruning import EPruning, _Evolution, _Repair
from compress.recipe import PruneSettings

INPUT_SHAPE = (3, 32, 32)
SETTINGS = PruneSettings(method="epruning", ratio=0.5, of="parameters", couple=False)


def stepper(network: nn.Module, images: torch.Tensor, labels: torch.Tensor, hook: _Evolution | None) -> Callable:
    """Returns what takes one step of SGD, with the hook's part in it as the training loop has it."""
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9)
    network.train()
    if hook is not None:
        hook.attach(network)

    def step() -> None:
        if hook is not None:
            hook.before_step(network, images, labels)
        loss = nn.functional.cross_entropy(network(images), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if hook is not None:
            hook.after_backward(network)
        optimizer.step()

    return step


def timed(work: Callable, cuda: bool) -> float:
    # Without a GPU the processor's time counts: what else the machine does is no part of it.
    clock = time.perf_counter if cuda else time.process_time
    start = clock()
    work()
    if cuda:
        torch.cuda.synchronize()
    return clock() - start


def ratio(seconds: list[float], plain: list[float]) -> dict[str, float]:
    """Returns the median of the paired ratios, and their quartiles."""
    ratios = np.asarray(seconds) / np.asarray(plain)
    low, middle, high = (float(value) for value in np.quantile(ratios, [0.25, 0.5, 0.75]))
    return {"ratio": middle, "quartile_1": low, "quartile_3": high}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet20")
    parser.add_argument("--population", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    spec = NetworkSpec(arguments.network, {"classes": 10, "in_channels": 3}, INPUT_SHAPE)
    problem = PruningProblem.of(build_network(spec), INPUT_SHAPE, None, 0, couple=False)
    images = torch.randn(arguments.batch_size, *INPUT_SHAPE, device=device)
    labels = torch.randint(10, (arguments.batch_size,), device=device)
    method = EPruning(population=arguments.population)
    hooks = {name: _Evolution(method, problem, _Repair(problem, SETTINGS)) for name in ("evolving", "settled")}
    steps = {name: stepper(build_network(spec).to(device), images, labels, hook) for name, hook in hooks.items()}
    steps["plain"] = stepper(build_network(spec).to(device), images, labels, None)
    forward = build_network(spec).to(device).train()

    def look() -> None:
        with torch.no_grad():
            forward(images)

    steps["forward"] = look
    for step in steps.values():
        step()
    hooks["settled"].final = True
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(arguments.rounds):
        for name, step in steps.items():
            seconds[name].append(timed(step, cuda))
    result = {
        "network": arguments.network,
        "population": arguments.population,
        "batch_size": arguments.batch_size,
        "evolving_over_plain": ratio(seconds["evolving"], seconds["plain"]),
        "settled_over_plain": ratio(seconds["settled"], seconds["plain"]),
        "forward_over_plain": ratio(seconds["forward"], seconds["plain"]),
        "overhead_in_forwards": float(
            np.median((np.asarray(seconds["evolving"]) - seconds["plain"]) / np.asarray(seconds["forward"]))
        ),
        "seconds": seconds,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, 1 thread, "
        f"{torch.cuda.get_device_name() if cuda else 'no GPU'}, torch {torch.__version__}",
    }
    write_json(arguments.output, result)
    print({key: value for key, value in result.items() if key != "seconds"})


if __name__ == "__main__":
    main()
