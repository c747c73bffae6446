"""Local functions of a model: nodes that stand for graphs of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compress.errors import ModelFileError

if TYPE_CHECKING:
    import onnx


def inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns a model in which every call of a local function is the nodes of that function.

    Args:
        model: not changed; returned itself if it has no functions.

    Raises:
        ModelFileError: if the functions cannot be inlined.
    """
    if not model.functions:
        return model
    import onnx
    import onnx.inliner

    try:
        return onnx.inliner.inline_local_functions(model)
    except (onnx.checker.ValidationError, RuntimeError, ValueError) as error:
        raise ModelFileError(f"its functions contradict each other: {error}", next_step="export it again") from error
