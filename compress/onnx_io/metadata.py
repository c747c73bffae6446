"""What exporters write into a model for people and tools, and no target reads."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from compress.onnx_io.tensors import contents

if TYPE_CHECKING:
    import onnx


def strip_metadata(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns a copy without doc strings, inferred shapes, and the metadata of its parts.

    Exporters write these for people and tools: they can double a small file, and no runtime reads them. What the model
    says of itself stays, its producer and its own metadata: applications keep class names and the like there.
    """
    import onnx

    stripped = onnx.ModelProto()
    stripped.CopyFrom(model)
    stripped.ClearField("doc_string")
    inside = contents(stripped)
    values = [value for graph in inside.graphs for value in (*graph.input, *graph.output)]
    parts: tuple[Sequence[Any], ...] = (
        stripped.functions, inside.nodes, inside.attributes, inside.tensors, inside.graphs, values
    )  # fmt: skip
    for alike in parts:
        fields = _metadata_of(alike[0].DESCRIPTOR) if alike else ()
        for part in alike:
            for field in fields:
                part.ClearField(field)
    return stripped


@cache
def _metadata_of(kind: Any) -> tuple[str, ...]:
    """Returns the fields that no runtime reads of a kind of message, given its descriptor."""
    return tuple(field for field in ("doc_string", "metadata_props", "value_info") if field in kind.fields_by_name)
