"""A rewrite leaves the smallest network there is: as small as brute force over subsets of channels finds it."""

import os

import numpy as np
import pytest
from minimality import judge
from oracle import is_exact, smallest
from tiny_draws import draw
from tiny_networks import Network, Op, run

CASES = int(os.environ.get("COMPRESS_MINIMALITY_CASES", "240"))
CHUNK = 20


@pytest.mark.parametrize("first", range(0, CASES, CHUNK))
def test_a_rewrite_is_as_small_as_the_smallest_exact_cut(first):
    verdicts = {seed: judge(*draw(seed)) for seed in range(first, min(first + CHUNK, CASES))}
    assert not {seed: verdict for seed, verdict in verdicts.items() if not verdict.agrees}
    # The comparison has something to compare: most are decided by the numbers alone, and in most something goes.
    assert sum(verdict.kind == "equal" for verdict in verdicts.values()) > len(verdicts) // 3
    assert sum(verdict.weights[1] < verdict.weights[0] for verdict in verdicts.values()) > len(verdicts) // 2


def two_layers(first, bias, second, *, pad=0, middle=None):
    """input → 1×1 convolution → ReLU → convolution; the channels between are the units."""
    first, second = (np.asarray(weight, dtype=float) for weight in (first, second))
    units, fixed = np.arange(len(first)), np.full(len(second), -1)
    network = Network(inputs={"input": (first.shape[1], 4, 4)}, outputs=["y"], size=len(first))
    network.parameters = {"w": first[:, :, None, None], "b": np.asarray(bias, dtype=float), "v": second}
    network.units = {"input": {1: np.full(first.shape[1], -1)}, "x": {1: units}, "r": {1: units}, "y": {1: fixed}}
    network.units |= {"w": {0: units}, "b": {0: units}, "v": {0: fixed, 1: units}}
    network.ops = [
        Op("conv", "first", ("input", "w", "b"), ("x",), {"pad": 0, "stride": 1}),
        Op("activation", "relu", ("x",), ("r",), {"of": "Relu"}),
        Op("conv", "second", ("r", "v"), ("y",), {"pad": pad, "stride": 1}),
    ]
    samples = np.random.default_rng(0).standard_normal((6, first.shape[1], 4, 4))
    network.shapes = {name: value.shape for name, value in run(network, {"input": samples}).items()}
    return network, samples


def kernel(side=1):
    return np.random.default_rng(1).uniform(0.5, 1, (2, 3, side, side))


@pytest.mark.parametrize(
    ("bias", "pad", "kept"),
    [
        ((0.5, 0.0, 0.0), 0, 1),  # zeros go
        ((0.5, 2.0, -1.0), 0, 1),  # a constant moves into the bias
        ((0.5, 2.0, -1.0), 1, 2),  # padding shows it: it stays
        ((0.5, 2.0, 3.0), 1, 2),  # of two, one bears the other
    ],
)
def test_the_oracle_finds_what_is_known_by_hand(bias, pad, kept):
    network, samples = two_layers([[1.0], [0.0], [0.0]], bias, kernel(3 if pad else 1), pad=pad)
    best = smallest(network, samples)
    assert best.complete
    assert best.keep.sum() == kept
    assert best.keep[0]


def test_the_oracle_cuts_nothing_that_matters():
    network, samples = two_layers([[1.0], [0.5], [2.0]], (0.1, 0.2, 0.3), kernel())
    assert smallest(network, samples).keep.all()
    original = run(network, {"input": samples})
    assert not is_exact(network, np.array([True, True, False]), samples, original)


def test_uneven_constants_count_only_if_asked_for():
    """A padded convolution of a constant is constant and uneven; flattened, a bias could stand for it."""
    network, samples = two_layers([[1.0], [0.0], [0.0]], (0.5, 2.0, 0.0), np.array([[[[1.0]], [[0.0]], [[0.0]]]]))
    network.parameters["v"] = np.zeros((2, 3, 3, 3))
    network.parameters["v"][0, 0], network.parameters["v"][1, 1] = 0.5, 0.7
    network.parameters["head"] = np.ones((1, 32))
    network.ops[2] = Op("conv", "second", ("r", "v"), ("y",), {"pad": 1, "stride": 1})
    network.ops += [
        Op("flatten", "flat", ("y",), ("f",)),
        Op("gemm", "out", ("f", "head"), ("z",), {"transposed": True}),
    ]
    network.units |= {"y": {1: np.array([3, 4])}, "v": {0: np.array([3, 4]), 1: np.arange(3)}}
    network.units |= {"f": {1: np.array([3, 4]).repeat(16)}, "head": {1: np.array([3, 4]).repeat(16)}}
    network.units["z"] = {1: np.array([-1])}
    network.outputs, network.size = ["z"], 5
    assert smallest(network, samples, flat=False).keep.tolist() == [True, False, False, True, False]
    assert smallest(network, samples, flat=True).keep.tolist() == [True, True, False, True, True]
