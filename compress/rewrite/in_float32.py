"""Models that compute in float32 what others compute in float16.

Each result of a float16 operator is rounded to three digits. A sum that leaves out zeros falls to the other side of
such a step now and then, so of two models that compute the same neither gives the other's outputs; in float32 they do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, numpy_helper

from compress.onnx_io.tensors import contents
from compress.onnx_io.weights import Parted, values_of

HALF, SINGLE = TensorProto.FLOAT16, TensorProto.FLOAT
_NAMES_A_TYPE = ("to", "dtype", "output_dtype", "stash_type")  # attributes


def in_float32(model: Parted) -> Parted | None:
    """Returns a model with float32 in place of float16 everywhere, its inputs and outputs too.

    Args:
        model: not changed.

    Returns:
        None if there is no float16 in it.
    """
    skeleton = ModelProto()
    skeleton.CopyFrom(model.skeleton)
    inside = contents(skeleton)
    values = [value for graph in inside.graphs for value in (*graph.input, *graph.output)]
    inputs = [v.type.tensor_type for v in values if v.type.tensor_type.elem_type == HALF]
    stored = [tensor for tensor in inside.tensors if tensor.data_type == HALF]
    types = [a for a in inside.attributes if a.name in _NAMES_A_TYPE and a.i == HALF]
    if not (inputs or stored or types):
        return None
    for kind in inputs:
        kind.elem_type = SINGLE
    for tensor in stored:
        if tensor.name in model.weights:
            tensor.data_type = SINGLE
        else:
            tensor.CopyFrom(numpy_helper.from_array(values_of(tensor).astype(np.float32), tensor.name))
    for attribute in types:
        attribute.i = SINGLE
    for graph in inside.graphs:
        # It may say otherwise.
        graph.ClearField("value_info")
    return Parted(skeleton, {name: widened(weight) for name, weight in model.weights.items()})


def widened(value: Any) -> Any:
    """Returns an array in float32 if it is one of float16; of a list, all of its parts."""
    if isinstance(value, list):
        return [widened(part) for part in value]
    return value.astype(np.float32) if getattr(value, "dtype", None) == np.float16 else value
