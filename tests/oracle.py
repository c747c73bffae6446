"""The smallest exact cut of a tiny network, found by trying: no labels, no rules, no sweep.

What may change beside the widths is said once, here. A contraction (convolution, matrix product) may get another bias,
and, where a constant makes it uneven (padding, a transposed convolution) and it reads a kept channel of one value that
is not zero, other columns for that channel. Whether a cut is exact is decided by computing the network that is left on
ordinary, large, small and zero inputs, in float64.
"""

from dataclasses import dataclass, replace
from itertools import count

import numpy as np
from tiny_networks import CONTRACTIONS, FORWARD, cut, run

TOLERANCE = 1e-9
ALL_SUBSETS = 9  # up to so many units, every subset that is smaller than the answer is tried


@dataclass(frozen=True)
class Smallest:
    """Which units stay, what the weights then hold, how many cuts were computed, and whether none was skipped."""

    keep: np.ndarray
    weights: int
    tried: int
    complete: bool


def smallest(network, samples, *, flat=False, apart=False):
    """Returns the smallest legal cut that is exact.

    Args:
        network: the network.
        samples: its inputs.
        flat: whether a constant counts as one only if it is the same everywhere in space. What padding and transposed
            convolutions make of a constant is then multiplied by a number that differs from sample to sample.
        apart: whether channels that vary do so each for itself. With few inputs, two ReLUs may never be active at once,
            or a sum may always be clipped; no zero says so. Each contraction then adds numbers of its own.
    """
    if flat:
        border = np.linspace(-3, 4, len(samples)).reshape(-1, 1, 1, 1)
        ops = [replace(op, options=op.options | {"border": border}) for op in network.ops]
        network = replace(network, ops=ops)
    original = run(network, {"input": samples})
    noise = _noise(network, original) if apart else {}
    if apart:
        original = run(network, {"input": samples}, lambda op, inputs, found: found + noise[op.name])
    tried = count()

    def exact(keep):
        next(tried)
        return is_exact(network, keep, samples, original, noise)

    candidates = np.ones((1, 0), dtype=bool)
    complete = network.size <= ALL_SUBSETS
    for unit in range(network.size):
        one = np.arange(network.size) != unit
        # A unit that makes a difference alone makes one with others: what they add to a reader is not its negative.
        free = complete or not legal(network, one[None])[0] or exact(one)
        without = np.append(candidates, np.zeros((len(candidates), 1), bool), axis=1)
        with_it = np.append(candidates, np.ones((len(candidates), 1), bool), axis=1)
        candidates = np.concatenate([with_it, without]) if free else with_it
    candidates = candidates[legal(network, candidates)]
    sizes = weights(network, candidates)
    for index in np.argsort(sizes, kind="stable"):
        if candidates[index].all() or exact(candidates[index]):
            return Smallest(candidates[index], int(sizes[index]), next(tried), complete)
    raise AssertionError("the whole network is not a legal cut of itself")


def is_exact(network, keep, samples, original, noise=None):
    """Tells whether the network without some units computes the same outputs; `noise` is what contractions add."""

    def correct(op, inputs, found):
        added = _kept_rows(network, op, noise[op.name], keep) if noise else 0
        return found + _absorbed(op, inputs, _missing(network, op, original, keep)) + added

    left = run(cut(network, keep), {"input": samples}, correct)
    for name in network.outputs:
        expected, found = original[name], left[name]
        if expected.shape != found.shape:
            return False
        scale = np.abs(expected).reshape(len(expected), -1).max(axis=1).clip(1)
        if (np.abs(expected - found).reshape(len(expected), -1).max(axis=1) > TOLERANCE * scale).any():
            return False
    return True


def _noise(network, values):
    """Draws what each contraction adds to its channels that vary."""
    random, noise = np.random.default_rng(0), {}
    for op in network.contractions():
        y = values[op.outputs[0]]
        others = tuple(a for a in range(y.ndim) if a != channel_axis(op))
        varies = np.ptp(y, axis=others, keepdims=True) > 1e-12
        noise[op.name] = random.standard_normal(y.shape) * np.abs(y).max(axis=others, keepdims=True) * varies
    return noise


def _kept_rows(network, op, values, keep):
    axis = channel_axis(op)
    return values.take(np.flatnonzero(np.append(keep, True)[network.units[op.outputs[0]][axis]]), axis=axis)


def _missing(network, op, original, keep):
    """Returns what the inputs that have gone had added to the outputs that stay."""
    keep = np.append(keep, True)
    x, axis = original[op.inputs[0]], channel_axis(op)
    shape = [-1 if a == axis else 1 for a in range(x.ndim)]
    gone = x * ~keep[network.units[op.inputs[0]][axis]].reshape(shape)
    whole = next(one for one in network.ops if one.name == op.name)
    return _kept_rows(network, op, FORWARD[op.kind](whole, gone, network.parameters[op.inputs[1]]), keep[:-1])


def channel_axis(op):
    """Returns the axis of a contraction's input and output that holds channels."""
    return op.options.get("axis", 1)


def _absorbed(op, inputs, missing):
    """Returns that part of what a contraction lacks which its bias, or a carrier, can supply."""
    x, side = inputs[0], inputs[1].shape[-1]
    others = tuple(a for a in range(missing.ndim) if a != channel_axis(op))
    uneven = op.kind == "deconv" or (op.kind == "conv" and op.options["pad"] and op.options.get("groups", 1) == 1)
    if not uneven or not _has_carrier(x):
        return missing.mean(axis=others, keepdims=True)
    taps = np.eye(side * side).reshape(-1, 1, side, side)
    ones = np.ones((len(x), 1, *x.shape[2:]))
    basis = FORWARD[op.kind](op, ones, taps if op.kind == "conv" else taps.swapaxes(0, 1))
    basis = np.append(basis.swapaxes(0, 1).reshape(side * side, -1), np.ones((1, missing[:, 0].size)), axis=0)
    rows = missing.swapaxes(0, 1)
    return (rows.reshape(len(rows), -1) @ np.linalg.pinv(basis) @ basis).reshape(rows.shape).swapaxes(0, 1)


def _has_carrier(x):
    rows = x.swapaxes(0, 1).reshape(x.shape[1], -1)
    return bool(((np.ptp(rows, axis=1) < 1e-12) & (np.abs(rows[:, 0]) > 1e-9)).any())


def legal(network, keeps):
    """Tells which cuts leave a network: no axis is empty, outputs and groups stay whole. Shape: (cuts,)."""
    keeps = np.append(keeps, np.ones((len(keeps), 1), bool), axis=1)
    good = np.ones(len(keeps), dtype=bool)
    for name, axes in network.units.items():
        for units in axes.values():
            left = keeps[:, units]
            good &= left.all(axis=1) if name in network.outputs else left.any(axis=1)
    for op in network.ops:
        grids = {name: keeps[:, grid] for name, grid in op.grids.items()}
        if op.kind == "shuffle":
            rows, columns = grids["all"].any(axis=2), grids["all"].any(axis=1)
            good &= (grids["all"] == rows[:, :, None] & columns[:, None, :]).all(axis=(1, 2))
        elif grids:
            # Groups of a convolution, heads of attention: all that stay keep equally many, or one goes with all it has.
            read, made = grids.values()
            good &= _even(read) & _even(made) & (read.any(axis=2) == made.any(axis=2)).all(axis=1)
    return good


def _even(kept):
    """Tells where all rows that keep anything keep equally many."""
    counts = kept.sum(axis=2)
    return ((counts == counts.max(axis=1, keepdims=True)) | (counts == 0)).all(axis=1)


def weights(network, keeps):
    """Returns how many numbers the operations read as weights (not biases) after each cut. Shape: (cuts,)."""
    keeps = np.append(keeps, np.ones((len(keeps), 1), bool), axis=1)
    total = np.zeros(len(keeps), dtype=int)
    for op in weighted(network):
        name = op.inputs[1]
        shape = network.parameters[name].shape
        size = np.ones(len(keeps), dtype=int)
        if "rows" in op.grids:
            rows, columns = (keeps[:, op.grids[axis]] for axis in ("rows", "columns"))
            size = rows.sum(axis=(1, 2)) * columns.sum(axis=2).max(axis=1) * int(np.prod(shape[2:]))
        else:
            for axis, extent in enumerate(shape):
                units = network.units[name].get(axis)
                size = size * (extent if units is None else keeps[:, units].sum(axis=1))
        total += size
    return total


def weighted(network):
    """Returns the operations whose second input is a weight or a scale."""
    return [op for op in network.ops if op.kind in (*CONTRACTIONS, "batch_norm")]
