"""What is cleaned and sorted in one walk is what graphsurgeon cleans and sorts."""

import onnx_graphsurgeon as gs
from hypothesis import given
from hypothesis import strategies as st
from onnx_graphsurgeon.logger import G_LOGGER

from compress.rewrite.tidy import clean, sort


@st.composite
def plans(draw: st.DrawFn) -> tuple[list[list[int]], list[int], list[int]]:
    """Draws what each node reads (0 is the graph's input), the order in which nodes stand, and what is returned."""
    count = draw(st.integers(1, 8))
    reads = [draw(st.lists(st.integers(0, index), min_size=1, max_size=3)) for index in range(count)]
    # Most graphs stand in order already.
    order = list(range(count)) if draw(st.booleans()) else draw(st.permutations(range(count)))
    return reads, order, draw(st.lists(st.integers(1, count), min_size=1, max_size=2, unique=True))


def built(plan: tuple[list[list[int]], list[int], list[int]], *, inner: bool = False) -> gs.Graph:
    reads, order, returned = plan
    tensors = [gs.Variable(f"t{index}") for index in range(len(reads) + 1)]
    nodes = [
        gs.Node("Sum", f"n{index}", inputs=[tensors[one] for one in some], outputs=[tensors[index + 1]])
        for index, some in enumerate(reads)
    ]
    if inner:
        # It reads from the graph around it.
        body = gs.Graph([gs.Node("Identity", inputs=[tensors[1]], outputs=[gs.Variable("z")])], outputs=[])
        body.outputs = [body.nodes[0].outputs[0]]
        nodes[-1].attrs["body"] = body if len(nodes) > 1 else 0
    return gs.Graph([nodes[index] for index in order], [tensors[0]], [tensors[index] for index in returned])


def said(graph: gs.Graph) -> list[tuple[str, list[str], list[str]]]:
    return [(n.name, [t.name for t in n.inputs], [t.name for t in n.outputs]) for n in graph.nodes]


@given(plans(), st.booleans())
def test_sorting_is_that_of_graphsurgeon(plan: tuple[list[list[int]], list[int], list[int]], inner: bool) -> None:
    mine, theirs = built(plan, inner=inner), built(plan, inner=inner)
    with G_LOGGER.suppress(G_LOGGER.CRITICAL):
        theirs.toposort()
    sort(mine)
    assert said(mine) == said(theirs)


@given(plans(), st.booleans())
def test_cleaning_is_that_of_graphsurgeon(plan: tuple[list[list[int]], list[int], list[int]], inner: bool) -> None:
    mine, theirs = built(plan, inner=inner), built(plan, inner=inner)
    before = list(mine.nodes)
    with G_LOGGER.suppress(G_LOGGER.CRITICAL):
        theirs.cleanup(remove_unused_graph_inputs=False)
    clean(mine)
    assert said(mine) == said(theirs)
    assert all(node in mine.nodes or not (node.inputs or node.outputs) for node in before)
    assert [len(t.outputs) for t in mine.inputs] == [len(t.outputs) for t in theirs.inputs]
