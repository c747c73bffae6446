"""Feature maps of every channel group, as whatever mixes channels or positions next reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, ValueInfoProto

from compress.channels.factors import coverage
from compress.channels.graph import Array, Node
from compress.channels.groups import ChannelGroup
from compress.channels.rules import rules
from compress.channels.rules.elementwise import Elementwise
from compress.errors import NetworkError
from compress.onnx_io.session import session
from compress.prune.problem import PruningProblem, images_and_labels
from compress.torch_graph import to_onnx

_BATCH = 64
# Beside elementwise operators: what leaves positions where they are, one channel by itself.
_POINTWISE = {"BatchNormalization", "Identity", "Dropout"}
_PRODUCERS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}  # a pooled or reshaped map is not one more map


@dataclass(frozen=True)
class FeatureMaps:
    """One tensor that carries the channels of a group.

    Attributes:
        unit: for each position of the channel axis, the number of its unit within the group; -1: of none.
        values: float32 [N, C, …], C as long as `unit`.
    """

    unit: Array
    values: Array


def feature_maps(problem: PruningProblem) -> Iterator[list[FeatureMaps]]:
    """Yields, for each group in turn, the tensors that carry its channels.

    They are taken after normalisation and activation, where a convolution, a pooling, or the like reads them; a
    residual stream has one after each sum.

    Args:
        problem: with samples.

    Raises:
        DataError: if there are no samples.
    """
    images, _ = images_and_labels(problem)
    model = to_onnx(problem.network, problem.input_shape)
    names = [_carriers(problem, index) for index in range(len(problem.groups.groups))]
    asked = sorted({name for found in names for name, _ in found})
    model.graph.output.extend(ValueInfoProto(name=name) for name in asked)
    values = _run(model, images.cpu().numpy(), asked)
    for found in names:
        yield [FeatureMaps(unit, values[name]) for name, unit in found]


def mean_over_maps(problem: PruningProblem, measure: Callable[[Array], Array]) -> list[Array]:
    """Returns a figure of each unit's feature maps, the mean over the tensors and positions that carry it.

    Args:
        problem: with samples.
        measure: maps values [N, C, …] to figures [C].

    Raises:
        DataError: if there are no samples.
        NetworkError: if units that may go have no feature map.
    """
    scores = []
    may_go = problem.groups.split(problem.prunable)
    for group, prunable, found in zip(problem.groups.groups, may_go, feature_maps(problem), strict=True):
        total, count = np.zeros(group.size), np.zeros(group.size)
        for maps in found:
            mine = maps.unit >= 0
            np.add.at(total, maps.unit[mine], np.asarray(measure(maps.values), dtype=np.float64)[mine])
            np.add.at(count, maps.unit[mine], 1)
        _require_maps(group, prunable & (count == 0))
        scores.append(total / np.maximum(count, 1))
    return scores


def mean_maps(problem: PruningProblem) -> list[Array]:
    """Returns each unit's feature map, the mean over the samples, as a vector: one array [units, positions] a group.

    Where several tensors carry a group, their maps are one after the other. Where a map is one number there is nothing
    to compare in its mean: its values on the samples are taken.

    Args:
        problem: with samples.

    Raises:
        DataError: if there are no samples.
        NetworkError: if units that may go have no feature map.
    """
    vectors = []
    may_go = problem.groups.split(problem.prunable)
    for group, prunable, found in zip(problem.groups.groups, may_go, feature_maps(problem), strict=True):
        seen, parts = np.zeros(group.size, dtype=bool), [np.zeros((group.size, 0))]
        for maps in found:
            mine = maps.unit >= 0
            values = maps.values.reshape(*maps.values.shape[:2], -1).astype(np.float64)  # [N, C, P]
            shown = values[:, :, 0].T if values.shape[2] == 1 else values.mean(axis=0)
            part = np.zeros((group.size, shown.shape[1]))
            np.add.at(part, maps.unit[mine], shown[mine])
            seen[maps.unit[mine]] = True
            parts.append(part)
        _require_maps(group, prunable & ~seen)
        vectors.append(np.concatenate(parts, axis=1))
    return vectors


def _require_maps(group: ChannelGroup, missing: Array) -> None:
    if missing.any():
        raise NetworkError(
            f"channel group {group.name!r} has no feature map [N, C, …] to judge its channels by",
            next_step=f"leave {group.name!r} out in [prune] exclude, or choose method 'filter-l1'",
        )


def _run(model: ModelProto, images: Array, names: list[str]) -> dict[str, Array]:
    runtime = session(model.SerializeToString())
    name = runtime.get_inputs()[0].name
    parts = [runtime.run(names, {name: images[first : first + _BATCH]}) for first in range(0, len(images), _BATCH)]
    return {asked: np.concatenate([part[index] for part in parts]) for index, asked in enumerate(names)}


def _carriers(problem: PruningProblem, index: int) -> list[tuple[str, Array]]:
    """Returns the tensors whose channel axis carries a group, and the unit at each position."""
    groups, graph = problem.groups, problem.groups.trace.graph
    local = {int(unit): number for number, unit in enumerate(groups.roots[index])}
    readers: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for name in node.inputs:
            readers.setdefault(name, []).append(node)
    found = []
    for node in graph.nodes:
        name = node.outputs[0]
        if not (_pointwise(node) or node.operator in _PRODUCERS) or all(map(_pointwise, readers.get(name, ()))):
            continue
        for factor in groups.trace.labels.of(name):
            if coverage(factor) == (1,):
                unit = np.array([local.get(int(u), -1) for u in groups.unit_of_atom[factor.reshape(-1)]])
                if (unit >= 0).any():
                    found.append((name, unit))
    return found


def _pointwise(node: Node) -> bool:
    return node.operator in _POINTWISE or isinstance(rules.find(node.key), Elementwise)
