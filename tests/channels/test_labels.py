import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import networks  # noqa: F401 - registers the profile

from compress.channels.factors import STAYS, as_factors, coverage, on_axis
from compress.channels.graph import Graph, Node
from compress.channels.labels import Labels
from compress.channels.operands import unify_elementwise

NODE = Node("Add", "add", (), ())


def labels_of(**shapes):
    constants = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    return Labels(Graph((), (), (), constants, shapes))


@settings(settings.get_profile("stable"), max_examples=150)
@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), max_size=40))
def test_classes_are_those_of_a_plain_union_find(pairs):
    labels = labels_of()
    labels.fresh(30)
    for a, b in pairs:
        labels.unify(np.array([a]), np.array([b]), NODE)
    parent = list(range(31))

    def root(x):
        while parent[x] != x:
            x = parent[x]
        return x

    for a, b in pairs:
        low, high = sorted((root(a), root(b)))
        parent[high] = low
    assert labels.classes().tolist() == [root(x) for x in range(31)]


def test_a_constant_gets_one_factor_for_each_axis_that_can_lose_something():
    first, second = labels_of(w=(3, 1, 2)).of("w")
    assert (coverage(first), coverage(second)) == ((0,), (2,))
    assert len({*first.reshape(-1), *second.reshape(-1)} - {STAYS}) == 5


def test_atoms_beside_one_that_stays_are_pinned():
    labels = labels_of()
    atoms = labels.fresh(2)
    labels.unify(atoms, np.array([STAYS, atoms[1]]), NODE)
    assert [pin.atoms.tolist() for pin in labels.pins] == [[atoms[0]]]
    assert labels.pins[0].node == "add"


def test_extra_ties_hold_only_once():
    labels = labels_of()
    a, b = labels.fresh(2)
    assert labels.classes(extra=[(np.array([a]), np.array([b]))]).tolist() == [0, a, a]
    assert labels.classes().tolist() == [0, a, b]


def test_broadcast_operand_without_labels_pins_what_it_meets():
    labels = Labels(Graph((), ("x",), (), {"w": np.zeros(3)}, {"x": (2, 3), "w": (3,)}))
    unify_elementwise(labels, ["x", "w"], 2, NODE)
    assert np.array_equal(np.concatenate([pin.atoms for pin in labels.pins]), labels.of("w")[0])


def test_an_axis_of_size_one_is_broadcast_and_ties_nothing():
    labels = labels_of(a=(3, 1), b=(1, 4))
    factors = unify_elementwise(labels, ["a", "b"], 2, NODE)
    assert sorted(coverage(factor) for factor in factors) == [(0,), (1,)]
    assert not labels.pins
    assert (labels.classes() == np.arange(labels.atom_count)).all()


def test_axis_pins_factors_over_several_axes():
    labels = labels_of(x=(2, 3))
    labels.factors["x"] = (labels.fresh(6).reshape(2, 3),)
    assert labels.axis("x", 1, NODE).tolist() == [STAYS] * 3
    assert labels.pins[0].atoms.size == 6


def test_factors_without_any_atom_that_can_go_are_dropped():
    assert as_factors(np.zeros((2, 1), int), on_axis(np.array([1, 0]), 0, 2), np.ones((1, 1), int))[0].shape == (2, 1)
