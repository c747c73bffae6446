"""How operands of matrix products are laid out: products of what is laid out are the products."""

from itertools import product

import numpy as np
import pytest

from compress.channels.matrices import matrices

SHAPES = [((3,), (3,)), ((2, 3), (3, 4)), ((3,), (3, 4)), ((2, 3), (3,)), ((5, 2, 3), (3, 4)), ((2, 3), (6, 1, 3, 4))]
CASES = [
    (first, second, turned_a, turned_b)
    for (first, second), turned_a, turned_b in product(SHAPES, (False, True), (False, True))
    if not (turned_a and len(first) == 1) and not (turned_b and len(second) == 1)
]


def _turned(cells, turned):
    return cells.swapaxes(-1, -2) if turned else cells


@pytest.mark.parametrize(("first", "second", "turned_a", "turned_b"), CASES)
def test_side_by_side_operands_multiply_position_by_position(first, second, turned_a, turned_b):
    random = np.random.default_rng(0)
    a, b = random.standard_normal(first), random.standard_normal(second)
    stored = _turned(a, turned_a), _turned(b, turned_b)
    sides = matrices(a.ndim, b.ndim, turned_a, turned_b)
    framed = sides.a.framed(stored[0]), sides.b.framed(stored[1])
    summed = np.asarray((framed[0] * framed[1]).sum(axis=-2))
    np.testing.assert_allclose(sides.as_result(summed), a @ b)
    assert np.array_equal(sides.as_matrices(sides.as_result(summed)), summed)


@pytest.mark.parametrize(("first", "second", "turned_a", "turned_b"), CASES)
def test_an_operand_comes_back_as_it_was(first, second, turned_a, turned_b):
    sides = matrices(len(first), len(second), turned_a, turned_b)
    for side, shape, turned in ((sides.a, first, turned_a), (sides.b, second, turned_b)):
        stored = _turned(np.arange(np.prod(shape)).reshape(shape), turned)
        framed = side.framed(stored)
        assert framed.shape == side.framed_shape(stored.shape)
        assert np.array_equal(side.unframed(framed).reshape(stored.shape), stored)
        assert stored.shape[side.inner] == 3
        assert stored.ndim == 1 or stored.shape[side.outer] == np.delete(stored.shape, side.inner)[-1]
