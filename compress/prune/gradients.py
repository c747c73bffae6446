"""Gradients of the loss on the samples, in float64."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from compress.channels.graph import Array
from compress.prune.problem import PruningProblem, images_and_labels


def double_copy(problem: PruningProblem, *, batch_statistics: bool = False) -> nn.Module:
    """Returns a copy of the network in float64, all of whose parameters can be differentiated by, frozen ones too.

    Args:
        problem: the network.
        batch_statistics: whether BatchNorm normalises by the batch, as in training; running ones mean nothing yet in a
            network that has not been trained.
    """
    network = copy.deepcopy(problem.network).double().requires_grad_(True)
    for module in network.modules():
        if batch_statistics and isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train()
    return network


def batches(problem: PruningProblem, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields images [N, C, H, W] in float64 and labels [N].

    Raises:
        DataError: if there are no samples.
    """
    images, labels = images_and_labels(problem)
    for first in range(0, len(labels), size):
        yield images[first : first + size].double(), labels[first : first + size]


def batch_gradients(
    problem: PruningProblem, size: int, *, batch_statistics: bool = False
) -> Iterator[dict[str, Array]]:
    """Yields the gradient of the mean cross-entropy of each batch of samples, by parameter, float64.

    Args:
        problem: with samples.
        size: samples a batch.
        batch_statistics: see `double_copy`.
    """
    network = double_copy(problem, batch_statistics=batch_statistics)
    names = list(network.named_parameters(remove_duplicate=False))
    for images, labels in batches(problem, size):
        loss = nn.functional.cross_entropy(network(images), labels)
        gradients = torch.autograd.grad(loss, [p for _, p in names], allow_unused=True, materialize_grads=True)
        yield {name: g.cpu().numpy() for (name, _), g in zip(names, gradients, strict=True)}
