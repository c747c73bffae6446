"""The model that passes work on: one graph, changed in place, and what is known of it as long as that is true."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import numpy as np
import onnx_graphsurgeon as gs
from onnx import ModelProto, TensorProto, helper
from onnx_graphsurgeon.ir.tensor import LazyValues
from onnx_graphsurgeon.logger import G_LOGGER

from compress.channels.kept import Kept
from compress.channels.trace import Trace
from compress.onnx_io.cost import Work, onnx_work
from compress.onnx_io.tensors import graphs
from compress.onnx_io.weights import SMALL_ELEMENTS, Parted
from compress.recipe import RewriteSettings
from compress.rewrite.analysis import analyse, complete
from compress.rewrite.graph_pass import Pass, producers
from compress.rewrite.scopes import Owned, hoist, owned_inside
from compress.rewrite.tidy import clean, sort

_FREE_INITIALIZERS = 4  # the first IR version in which initializers need not be inputs as well


class Workpiece:
    """A model between passes.

    Args:
        model: stripped; not changed, and its weights are never written to.
        settings: of the analysis.
        known: what is known of the model, if somebody has analysed it already.
    """

    def __init__(self, model: Parted, settings: RewriteSettings, known: Trace | None = None) -> None:
        self._model: Parted | None = model
        self._settings = settings
        self._known = known
        self._kept: Kept | None = None
        self._graph: gs.Graph | None = None
        self._owned: Owned = {}
        self._work: tuple[Parted, Work] | None = None
        self._original = model.skeleton

    @property
    def model(self) -> Parted:
        """The model as it is now."""
        self.export()
        assert self._model is not None
        return self._model

    def export(self) -> None:
        """Makes a model of the graph, if there is none of it."""
        if self._model is None:
            assert self._graph is not None
            with G_LOGGER.suppress(G_LOGGER.CRITICAL):
                self._model = _exported(self._graph, self._original, self._owned)

    @property
    def trace(self) -> Trace:
        """What is known of the model as it is now.

        Raises:
            ModelFileError: if it cannot be analysed.
        """
        return complete(self._analysed(whole=True))

    def _analysed(self, *, whole: bool) -> Trace:
        """Returns what is known, of which there may be no more than values if it is not to be `whole`."""
        if self._known is None:
            model = self.model
            self._known = analyse(model.skeleton, self._settings, model.weights, self._kept, whole=whole)
        return self._known

    @property
    def work(self) -> Work:
        """What the model computes and stores as it is now.

        Raises:
            ModelFileError: if it cannot be analysed.
        """
        if self._work is None or self._work[0] is not self.model:
            self._work = self.model, onnx_work(self.model.skeleton, graph=self.trace.graph)
        return self._work[1]

    def apply(self, one: Pass) -> list[str]:
        """Runs a pass; returns what it has done, empty if nothing."""
        # What graphsurgeon has to say would go to stdout, where results stand.
        with G_LOGGER.suppress(G_LOGGER.CRITICAL):
            if self._graph is None:
                self._graph = _imported(self.model)
                self._owned = owned_inside(self._graph, self.model.skeleton.graph)
            known = self._analysed(whole=False) if one.opens else self.trace
            notes = one.run(self._graph, known)
            if notes:
                clean(self._graph)
        if notes:
            self._model = None
            self._known = one.known(known) if _holds(self._graph, known) else None
            self._kept = one.kept(known)
        return notes


def _holds(graph: gs.Graph, known: Trace) -> bool:
    """Tells whether a graph still has all nodes of an analysis: what nothing reads any more has gone."""
    made = producers(graph)
    return all(node.whole in made or any(name in made for name in node.outputs) for node in known.graph.nodes)


def _imported(model: Parted) -> gs.Graph:
    graph = gs.import_onnx(model.skeleton)
    for name, tensor in _constants(graph):
        if name in model.weights:
            tensor.values = model.weights[name]
    return graph


def _exported(graph: gs.Graph, original: ModelProto, owned: Owned) -> Parted:
    """Brings a graph into order and returns it as a model."""
    sort(graph)
    # An exported tensor is a copy of its data, unless it is one that holds none.
    apart = {name: tensor for name, tensor in _constants(graph) if _is_apart(tensor)}
    weights = {name: tensor.values for name, tensor in apart.items()}
    for tensor in apart.values():
        element = helper.np_dtype_to_tensor_dtype(tensor.dtype)
        tensor.values = LazyValues(TensorProto(name=tensor.name, data_type=element, dims=tensor.shape))
    model: ModelProto = gs.export_onnx(graph, do_type_check=False)
    hoist(graph, model.graph, owned)
    for name, tensor in apart.items():
        tensor.values = weights[name]
    # A graph keeps no IR version: the original's is what its runtime took.
    model.ir_version = original.ir_version
    if model.ir_version < _FREE_INITIALIZERS:
        declared = {value.name for value in model.graph.input}
        for tensor in model.graph.initializer:
            if tensor.name not in declared:
                model.graph.input.append(
                    helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
                )
    model.producer_name, model.producer_version = original.producer_name, original.producer_version
    del model.metadata_props[:]
    model.metadata_props.extend(original.metadata_props)
    for part in graphs(model.graph):
        # All other metadata has been stripped before.
        part.ClearField("value_info")
    return Parted(model, weights)


def _constants(graph: gs.Graph) -> Iterator[tuple[str, gs.Constant]]:
    """Yields the constants of the main graph with the names under which nodes read them."""
    for tensor in chain(graph.inputs, *(node.inputs for node in graph.nodes), graph.outputs):
        if isinstance(tensor, gs.Constant) and tensor.name:
            yield tensor.name, tensor
    for node in graph.nodes:
        if node.op == "Constant" and isinstance(node.attrs.get("value"), gs.Constant):
            yield node.outputs[0].name, node.attrs["value"]


def _is_apart(tensor: gs.Constant) -> bool:
    values = tensor._values
    return isinstance(values, np.ndarray) and values.size > SMALL_ELEMENTS and values.dtype.isbuiltin == 1
