"""What is known of a graph after a pass, from what was known before, is what a new analysis finds."""

from collections.abc import Iterator

import numpy as np
import pytest
import topologies
from onnx import helper
from strategies import make_model
from tiny_draws import draw
from tiny_networks import to_onnx

from compress.channels.graph import Graph
from compress.channels.kept import Kept
from compress.channels.remaining import remaining
from compress.channels.sweep import needed, sweep
from compress.channels.trace import Trace, retraced, trace
from compress.recipe import RewriteSettings
from compress.rewrite import analysis, rewrite
from compress.rewrite.blocked import blocked_channels
from compress.rewrite.passes import align_groups


@pytest.fixture
def derived(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Trace, Trace]]:
    """Collects what was derived in rewrites, each with what a new analysis finds."""
    found: list[tuple[Trace, Trace]] = []

    def after_a_cut(kept: Kept, graph: Graph) -> Trace | None:
        result, known = remaining(kept, graph), kept.trace
        if result is not None:
            fresh = trace(graph, epsilon=known.epsilon, fold=known.fold, widths=known.widths, spread=True)
            found.append((result, fresh))
        return result

    def after_moves(known: Trace, constants: dict[str, np.ndarray], source: np.ndarray) -> Trace:
        found.append((rearranged(known, constants, source), retraced(known, constants)))
        return found[-1][0]

    rearranged = align_groups.rearranged
    monkeypatch.setattr(analysis, "remaining", after_a_cut)
    monkeypatch.setattr(align_groups, "rearranged", after_moves)
    return found


def labelled(known: Trace) -> Iterator[tuple[str, int, tuple[int, ...], np.ndarray]]:
    """Yields the factors of all tensors that could lose anything, as classes."""
    classes = known.labels.classes()
    for name in known.graph.shapes:
        for factor in sorted(known.labels.of(name), key=lambda one: one.shape):
            if classes[factor].any() and known.graph.types.get(name, np.dtype("f4")).kind == "f":
                yield name, factor.ndim, factor.shape, classes[factor.reshape(-1)]


def assert_same(found: Trace, fresh: Trace) -> None:
    mine, theirs = list(labelled(found)), list(labelled(fresh))
    assert [one[:3] for one in mine] == [one[:3] for one in theirs]
    # The same things go together: classes correspond one to one.
    pairs = {pair for one, other in zip(mine, theirs, strict=True) for pair in zip(one[3], other[3], strict=True)}
    assert len(pairs) == len({first for first, _ in pairs}) == len({second for _, second in pairs})
    for name in (found.values.keys() & fresh.values.keys()) - found.graph.constants.keys():
        one, other = np.broadcast_arrays(found.values[name], fresh.values[name])
        both = ~(np.isnan(one) | np.isnan(other)) if one.dtype.kind == "f" else np.ones(one.shape, dtype=bool)
        assert np.allclose(one[both], other[both], rtol=1e-5, atol=1e-6), name
    assert {name: value.tolist() for name, value in found.examples.items()} == {
        name: value.tolist() for name, value in fresh.examples.items()
    }
    alive, live = sweep(found), sweep(fresh)
    assert all(
        np.array_equal(alive.mask(name, axis), live.mask(name, axis))
        for name, shape in found.graph.shapes.items()
        for axis in range(len(shape))
    )
    wanted, asked = set(found.labels.classes()[needed(found)]), set(fresh.labels.classes()[needed(fresh)])
    # Where one of several has to stay, either may.
    if all(len(positions) == 1 for _, _, positions in fresh.choices):
        assert all((one in wanted) == (other in asked) for one, other in pairs)
    assert set(blocked_channels(found)) == set(blocked_channels(fresh))
    assert found.unknown == fresh.unknown
    assert len(found.choices) == len(fresh.choices)


@pytest.mark.parametrize(("mask", "round_to"), [("aligned", "none"), ("unaligned", "none"), ("unaligned", 8)])
@pytest.mark.parametrize("value", topologies.VALUES)
@pytest.mark.parametrize("name", topologies.TOPOLOGIES)
def test_what_is_derived_is_what_a_new_analysis_finds(derived, name, value, mask, round_to):
    result = rewrite(topologies.masked(name, value, mask)[1], RewriteSettings(round_to=round_to))
    assert result.channels_removed
    # Constants of attention scores are added by nodes that were not there before.
    assert derived or ("transformer" in name and value == "constant")
    for found, fresh in derived:
        assert_same(found, fresh)


# At the last three, groups of several channels become groups of one, which tie their inputs in other ways.
@pytest.mark.parametrize("seeds", [range(40), range(40, 80), (2006, 2385, 2964)])
def test_of_random_networks_too(derived, seeds):
    for seed in seeds:
        result = rewrite(to_onnx(draw(seed)[0]))
        assert result.proven
        assert not [note for note in result.notes if "left out" in note]
    for found, fresh in derived:
        assert_same(found, fresh)


@pytest.mark.parametrize("shift", ["BatchNormalization", "Add", "bias"])
def test_values_before_a_shift_that_takes_a_constant_are_others(derived, shift):
    """The third output of `second` is known, as all that it reads is; what is added behind it takes that over."""
    random = np.random.default_rng(0)
    first, second = random.standard_normal((4, 3, 1, 1)), random.standard_normal((3, 4, 1, 1))
    first[3], second[2, :3] = 0, 0
    constants = {"first": first, "b": np.array([0.1, 0.2, 0.3, 1.5]), "second": second, "last": np.ones((2, 3, 1, 1))}
    constants |= {name: random.uniform(0.5, 1, 3) for name in ("scale", "shift", "mean", "variance")}
    constants["added"] = random.uniform(0.5, 1, (3, 1, 1))
    behind = {
        "BatchNormalization": ["y", "scale", "shift", "mean", "variance"],
        "Add": ["y", "added"],
        "bias": ["y"],
    }[shift]
    nodes = [
        helper.make_node("Conv", ["input", "first", "b"], ["x"]),
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Conv", ["r", "second", *(["mean"] if shift == "bias" else [])], ["y"]),
        helper.make_node("Softplus" if shift == "bias" else shift, behind, ["s"]),
        helper.make_node("Conv", ["s", "last"], ["z"]),
    ]
    model = make_model(
        nodes,
        {"input": ("N", 3, 4, 4)},
        {"z": ("N", 2, 4, 4), "s": ("N", 3, 4, 4)},
        {name: value.astype(np.float32) for name, value in constants.items()},
        opset=18,
    )
    result = rewrite(model)
    assert result.proven
    assert result.channels_removed == 1
    assert bool(derived) == (shift == "bias")
    for found, fresh in derived:
        assert_same(found, fresh)


def test_what_nobody_needs_and_stays_may_become_constant():
    """Of a channel that only a split holds, what was computed from goes; a second rewrite finds nothing more."""
    first = rewrite(to_onnx(draw(2354, 12)[0]))
    again = rewrite(first.model)
    assert first.channels_removed
    assert first.params_after == again.params_after
    assert len(first.model.graph.node) == len(again.model.graph.node)
