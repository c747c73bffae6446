"""Running an ONNX model: sessions of ONNX Runtime, and inputs that fit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from compress.errors import ModelFileError

if TYPE_CHECKING:
    import onnx

# A free axis that is not the batch is an image side in practice; 64 passes through five halvings.
DEFAULT_AXIS = 64


class InputSpec(NamedTuple):
    """What one input takes: an element type of NumPy and a shape without free axes."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]


def session(model: bytes | Path, threads: int = 1, profile_prefix: str | None = None) -> Any:
    """Opens a model in ONNX Runtime on the CPU, with every optimization and without spinning threads.

    Args:
        model: a file, or the bytes of one.
        threads: within an operator, ≥ 1; operators run one after the other.
        profile_prefix: where to write operator times; none are taken without it.

    Returns:
        An `onnxruntime.InferenceSession`.

    Raises:
        ModelFileError: with the runtime's reason, if it refuses the model.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what the runtime has to say comes as an exception
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if profile_prefix is not None:
        options.enable_profiling = True
        options.profile_file_prefix = profile_prefix
    source = str(model) if isinstance(model, Path) else model
    what = f"model {model}" if isinstance(model, Path) else "the model"
    try:
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's errors have no base class of their own
        reason, next_step = explain_refusal(str(error), f"onnxruntime {onnxruntime.__version__}")
        raise ModelFileError(f"{what} is refused by ONNX Runtime: {reason}", next_step=next_step) from error


def explain_refusal(message: str, runtime: str) -> tuple[str, str]:
    """Turns ONNX Runtime's message into a reason and a next step.

    Args:
        message: of the exception, with places in its C++ sources.
        runtime: its name and version.

    Returns:
        (reason, next step), one line each.
    """
    found = re.search(r"Unsupported model IR version: (\d+), max supported IR version: (\d+)", message)
    if found:
        return (
            f"it has IR version {found[1]}, {runtime} takes at most {found[2]}",
            f"set `model.ir_version = {found[2]}` and save it again, or install a newer onnxruntime",
        )
    found = re.search(r"Opset (\d+) is under development.*domain (\S+) is till opset (\d+)", message, re.DOTALL)
    if found:
        return (
            f"it uses opset {found[1]} of {found[2]}, {runtime} takes at most {found[3]}",
            "export it with a lower opset, or install a newer onnxruntime",
        )
    reason = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", message)
    reason = re.sub(r"/\S*onnxruntime_src\S* .*?\) (?=[A-Z])", "", reason)
    return " ".join(reason.split()), "export it again, or keep to operators that this runtime has"


def input_shapes(
    model: onnx.ModelProto,
    batch_size: int = 1,
    sizes: Mapping[str, int] | None = None,
    default: int = DEFAULT_AXIS,
) -> dict[str, InputSpec]:
    """Returns what each input takes, with a number for every free axis.

    Args:
        model: an ONNX model.
        batch_size: for a free first axis, and for each other axis of the same name.
        sizes: numbers for other named axes; they win over `batch_size`.
        default: for every other free axis.

    Returns:
        Input name → element type and shape, in the model's order; initializers that are listed as inputs are left out.

    Raises:
        ModelFileError: if an input is no tensor, has no shape, or holds strings.
    """
    import onnx

    initializers = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in initializers]
    for value in inputs:
        kind = value.type.WhichOneof("value")
        tensor = value.type.tensor_type
        if (
            kind != "tensor_type"
            or not tensor.HasField("shape")
            or tensor.elem_type not in onnx.TensorProto.DataType.values()
            or tensor.elem_type in (onnx.TensorProto.UNDEFINED, onnx.TensorProto.STRING)
        ):
            raise ModelFileError(
                f"input {value.name!r} cannot be fed",
                got=_describe(value),
                allowed="a tensor of numbers with a shape",
                next_step="export the network with plain tensors as inputs",
            )
    shapes = {value.name: value.type.tensor_type.shape.dim for value in inputs}
    named = {dims[0].dim_param: batch_size for dims in shapes.values() if dims and dims[0].dim_param}
    named |= sizes or {}
    specs = {}
    for value in inputs:
        shape = tuple(
            axis.dim_value
            if axis.dim_value > 0
            else named.get(axis.dim_param, batch_size if position == 0 else default)
            for position, axis in enumerate(shapes[value.name])
        )
        specs[value.name] = InputSpec(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type), shape)
    return specs


def random_inputs(
    model: onnx.ModelProto,
    seed: int,
    batch_size: int = 1,
    sizes: Mapping[str, int] | None = None,
    default: int = DEFAULT_AXIS,
    bound: int = 1,
) -> dict[str, np.ndarray]:
    """Draws inputs that a model takes.

    Floats are drawn from N(0, 1), 8-bit integers (pixels) and truth values uniformly; other integers below
    `bound`: 0 by default, which is valid wherever they are indices.

    Args:
        model: an ONNX model.
        seed: of the draw; ≥ 0.
        batch_size: see `input_shapes`, as for the others.
        sizes: numbers for named axes.
        default: for every other free axis.
        bound: exclusive upper bound of integers of more than 8 bits; ≥ 1.

    Returns:
        Input name → array.

    Raises:
        ModelFileError: as `input_shapes` does.
    """
    generator = np.random.default_rng(seed)
    arrays = {}
    for name, (dtype, shape) in input_shapes(model, batch_size, sizes, default).items():
        if dtype in (np.int8, np.uint8):
            limits = np.iinfo(dtype)
            arrays[name] = generator.integers(limits.min, limits.max + 1, shape, dtype)
        elif dtype == np.bool_:
            arrays[name] = generator.integers(0, 2, shape).astype(np.bool_)
        elif np.issubdtype(dtype, np.integer):
            arrays[name] = generator.integers(0, bound, shape).astype(dtype)
        else:
            arrays[name] = generator.standard_normal(shape).astype(dtype)
    return arrays


def _describe(value: onnx.ValueInfoProto) -> str:
    import onnx

    kind = str(value.type.WhichOneof("value") or "nothing").removesuffix("_type")
    if kind != "tensor":
        return f"a {kind}"
    tensor = value.type.tensor_type
    return "a tensor of strings" if tensor.elem_type == onnx.TensorProto.STRING else "a tensor without a shape"
