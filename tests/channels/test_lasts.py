import numpy as np

from compress.channels.graph import Graph, Node
from compress.channels.labels import Labels
from compress.channels.lasts import Lasts

NODE = Node("Add", "add", (), ())


def test_of_channels_that_lie_alike_one_is_tried():
    labels = Labels(Graph((), (), (), {}, {}), spread=True)
    row, other, grid = labels.fresh(4), labels.fresh(3), labels.fresh(4).reshape(2, 2)
    labels.factors |= {"row": (row,), "other": (other,), "grid": (grid,)}
    # The second and the third channel are in the other row as well, the fourth is a cell of the grid.
    labels.unify(row[1:3], other[:2], NODE)
    labels.unify(row[3:], grid[0, :1], NODE)
    lasts = Lasts(labels)
    for missing, expected in (([row], {row[0], row[1], row[3]}), ([other], {row[1], other[2]}), ([row], None)):
        found = lasts._candidates(missing)
        classes = set(lasts.classes[found].tolist())
        assert classes == set(lasts.classes[sorted(expected or {row[0], row[1], row[3]})].tolist())
        assert len(found) == len(classes)
    # Where slices are cut each position is its own kind.
    assert len(lasts._candidates([grid.reshape(-1)])) == 4


def test_what_serves_more_arrays_is_tried_first():
    labels = Labels(Graph((), (), (), {}, {}))
    row, other = labels.fresh(3), labels.fresh(2)
    labels.factors |= {"row": (row,), "other": (other,)}
    labels.unify(row[2:], other[:1], NODE)
    assert Lasts(labels)._candidates([row, other])[0] == row[2]
    assert Lasts(labels)._candidates([np.array([row[0]])]) == [row[0]]
