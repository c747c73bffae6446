"""Where channels may change places, against the definitions spelt out in plain loops."""

from collections import Counter

import numpy as np
import pytest

from compress.channels.arrange import filled
from compress.channels.factors import coverage
from compress.channels.graph import Graph, Node
from compress.channels.labels import Labels
from compress.channels.places import Places
from compress.channels.slices import slices_by_cells
from compress.channels.trace import Trace

NODE = Node("Reshape", "reshape", ("x",), ("y",))
SHAPES = [(3, 4), (4, 3), (1, 3, 4), (3, 1, 4, 1), (12,), (12, 1)]


def spread_labels(seed: int) -> Trace:
    """Arrays of the same few classes, some of them equal but for axes of size 1, some with slices beside them."""
    generator = np.random.default_rng(seed)
    weights = {"own": np.zeros((3, 4), np.float32), "shared": np.zeros((3, 4), np.float32)}
    nodes = tuple(Node("Conv", name, ("x", name), (f"{name}.y",)) for name in ("own", "shared", "shared"))
    graph = Graph(nodes, ("x",), (), weights, {name: value.shape for name, value in weights.items()})
    labels = Labels(graph, spread=True)
    runs = [labels.fresh(12) for _ in range(3)]
    labels.unify(runs[0], generator.choice([runs[0], runs[1]])[generator.permutation(12)], NODE)
    labels.pin(generator.choice(runs[1], 2), NODE, "by chance")
    for index in range(12):
        atoms = runs[generator.integers(3)]
        if generator.random() < 0.4:
            atoms = atoms[generator.permutation(12)]
        cells = atoms.reshape(SHAPES[generator.integers(len(SHAPES))])
        labels.factors[f"t{index}"] = (cells,)
        if len(coverage(cells)) > 1 and generator.random() < 0.7:
            axis = int(generator.choice(coverage(cells)))
            beside = labels.fresh(cells.shape[axis])
            labels.tie_slices(cells, axis, beside, NODE, str(generator.choice(["own", "shared", ""])))
    return Trace(graph, labels)


def plain_blocks(trace: Trace) -> dict[int, object]:
    """For each place that can move: how often it occurs in each array, and where on axes that are told apart."""
    labels, classes = trace.labels, trace.labels.classes()
    stuck = {0, *(int(classes[atom]) for pin in labels.pins for atom in pin.atoms)}
    stuck |= {int(classes[atom]) for one in labels.slices for atom in one.atoms}
    found: dict[int, list[object]] = {}
    several = set()
    for number, (cells, slices) in enumerate(slices_by_cells(labels)):
        told = [one.axis for one in slices if one.weight != "own"]
        for position in np.ndindex(cells.shape):
            place = int(classes[cells[position]])
            several |= {place} if len(coverage(cells)) > 1 else set()
            found.setdefault(place, []).append((number, *(position[axis] for axis in told)))
    return {place: tuple(occurrences) for place, occurrences in found.items() if place in several - stuck}


@pytest.mark.parametrize("seed", range(40))
def test_places_of_one_block_are_those_that_nothing_tells_apart(seed):
    trace = spread_labels(seed)
    places, expected = Places(trace), plain_blocks(trace)
    assert np.flatnonzero(places.movable).tolist() == sorted(expected)
    for place, signature in expected.items():
        alike = [other for other in expected if expected[other] == signature]
        assert np.flatnonzero(places.blocks == places.blocks[place]).tolist() == sorted(alike)


@pytest.mark.parametrize("seed", range(40))
def test_arrays_whose_places_could_get_other_coordinates_are_found(seed):
    trace = spread_labels(seed)
    alike, classes = plain_blocks(trace), trace.labels.classes()
    expected = set()
    for cells, _ in slices_by_cells(trace.labels):
        where: dict[int, list[tuple[int, ...]]] = {}
        for at, atom in np.ndenumerate(cells):
            where.setdefault(int(classes[atom]), []).append(at)
        pairs = [(a, b) for a in where for b in where if a in alike and alike[a] == alike.get(b)]
        differ = [(x, y) for a, b in pairs for x, y in zip(where[a], where[b], strict=True)]
        axes = [axis for axis in coverage(cells) if any(x[axis] != y[axis] for x, y in differ)]
        if axes and len(coverage(cells)) > 1:
            slabs = [np.moveaxis(classes[cells], axis, 0).reshape(cells.shape[axis], -1) for axis in axes]
            expected.add(frozenset(frozenset(tuple(sorted(slab)) for slab in parts.tolist()) for parts in slabs))
    found = Places(trace).grids
    assert {frozenset(frozenset(parts) for parts in grid.partitions) for grid in found} == expected


@pytest.mark.parametrize("seed", range(40))
def test_units_are_filled_one_after_the_other(seed):
    generator = np.random.default_rng(seed)
    units, blocks = generator.integers(0, 9, 40), generator.integers(0, 4, 40)
    dead = (generator.random(40) < 0.5) | (units % 4 == 0)
    supply = Counter(blocks[dead].tolist())
    order = sorted(set(units.tolist()), key=lambda unit: (not dead[units == unit].all(), -unit))
    chosen = []
    for unit in order:
        demand = Counter(blocks[units == unit].tolist())
        if demand <= supply:
            supply -= demand
            chosen.append(unit)
    assert (filled(units, blocks, dead) == np.isin(units, chosen)).all()


def test_where_nothing_is_tied_nothing_is_filled():
    none = np.zeros(0, np.int64)
    assert filled(none, none, none.astype(bool)).size == 0
