"""What is cleaned and sorted in one walk is what graphsurgeon cleans and sorts."""

from typing import Any

import onnx_graphsurgeon as gs
from hypothesis import given
from hypothesis import strategies as st
from onnx_graphsurgeon.logger import G_LOGGER

from compress.rewrite.tidy import clean, sort

Plan = tuple[list[list[int]], list[int], list[int]]


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Draws what each node reads (0 is the graph's input), the order in which nodes stand, and what is returned."""
    count = draw(st.integers(1, 8))
    reads = [draw(st.lists(st.integers(0, index), min_size=1, max_size=3)) for index in range(count)]
    # Most graphs stand in order already.
    order = list(range(count)) if draw(st.booleans()) else draw(st.permutations(range(count)))
    return reads, order, draw(st.lists(st.integers(1, count), min_size=1, max_size=2, unique=True))


def built(plan: Plan, *inner: Plan) -> gs.Graph:
    """Returns a graph; its last node holds the first of the inner ones, the last node of which holds the next."""
    outer: list[gs.Variable] = []
    graphs = []
    for depth, (reads, order, returned) in enumerate((plan, *inner)):
        # An inner graph has no inputs: it reads from the graphs around it instead.
        own = [gs.Variable(f"{depth}.t{index}") for index in range(len(reads) + 1)]
        tensors = [outer[-1] if outer else own[0], *own[1:]]
        nodes = [
            gs.Node("Sum", f"{depth}.n{index}", inputs=[tensors[one] for one in some], outputs=[tensors[index + 1]])
            for index, some in enumerate(reads)
        ]
        if outer:
            # From the outermost, too, what nothing else may read.
            nodes[0].inputs.append(outer[depth % len(outer)])
        listed = [nodes[index] for index in order]
        graph = gs.Graph(listed, [] if outer else [tensors[0]], [tensors[index] for index in returned])
        if graphs:
            graphs[-1][1].attrs["body"] = graph
        graphs.append((graph, nodes[-1]))
        # Of what the node that holds the next reads or makes, nothing but what comes before it.
        outer += tensors[:-1]
    return graphs[0][0]


def said(graph: gs.Graph) -> list[Any]:
    return [
        (n.name, [t.name for t in n.inputs], [t.name for t in n.outputs], [said(one) for one in n.subgraphs()])
        for n in graph.nodes
    ]


@given(plans(), st.lists(plans(), max_size=2))
def test_sorting_is_that_of_graphsurgeon(plan: Plan, inner: list[Plan]) -> None:
    mine, theirs = built(plan, *inner), built(plan, *inner)
    with G_LOGGER.suppress(G_LOGGER.CRITICAL):
        theirs.toposort()
    sort(mine)
    assert said(mine) == said(theirs)


@given(plans(), st.lists(plans(), max_size=2))
def test_cleaning_is_that_of_graphsurgeon(plan: Plan, inner: list[Plan]) -> None:
    mine, theirs = built(plan, *inner), built(plan, *inner)
    before = list(mine.nodes)
    with G_LOGGER.suppress(G_LOGGER.CRITICAL):
        theirs.cleanup(remove_unused_graph_inputs=False)
    clean(mine)
    assert said(mine) == said(theirs)
    assert all(node in mine.nodes or not (node.inputs or node.outputs) for node in before)
    assert [len(t.outputs) for t in mine.inputs] == [len(t.outputs) for t in theirs.inputs]
