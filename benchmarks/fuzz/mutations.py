"""Damages ONNX files: their bytes, and the fields of their messages."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import AttributeProto, TensorProto, helper, numpy_helper

_SIZES = (0, -1, 1, 2, 3, 7, 255, 2**20, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1, -(2**63))
_FLOATS = (np.nan, np.inf, -np.inf, 0.0, 1e-42, 1e-10, 1.0, -1.0, 1e20, 3.4e38)
_OPERATORS = (
    *("Add", "ArgMax", "AveragePool", "BatchNormalization", "Cast", "Clip", "Concat", "Constant", "ConstantOfShape"),
    *("Conv", "ConvTranspose", "CumSum", "DepthToSpace", "DequantizeLinear", "Div", "Dropout", "Einsum", "Expand"),
    *("Flatten", "Gather", "GatherND", "Gelu", "Gemm", "GlobalAveragePool", "GRU", "Identity", "If", "Loop", "LSTM"),
    *("LayerNormalization", "MatMul", "MaxPool", "Mul", "NoSuchOperator", "NonZero", "OneHot", "Pad", "Pow", "PRelu"),
    *("QLinearConv", "QuantizeLinear", "Range", "ReduceMean", "Relu", "Reshape", "Resize", "Scan", "ScatterND"),
    *("SequenceAt", "Shape", "Sigmoid", "Size", "Slice", "Softmax", "SpaceToDepth", "Split", "SplitToSequence"),
    *("Squeeze", "Tile", "TopK", "Transpose", "Unsqueeze", "Where", "FusedConv", "MatMulNBits", "Attention"),
)
_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft", "local", "no.such.domain", "\0")
_PATHS = ("../../../../etc/passwd", "/etc/passwd", "", ".", "..", "weights.bin", "a\0b", "x" * 5000, "/dev/zero")

# The checker sees nearly all of these: they are done more seldom than what only a run can tell.
_BLUNT = {
    *("attribute_type", "cycle", "domain", "element_type", "graph_input", "graph_output", "initializer_gone"),
    *("initializer_named", "initializer_outside", "initializer_sparse", "initializer_twice", "node_gone", "node_moved"),
    *("node_twice", "nested", "output_other", "outputs_gone", "rank", "raw_length", "strings", "dims", "versions"),
}

Change = Callable[[onnx.ModelProto, np.random.Generator], None]
CHANGES: dict[str, Change] = {}


def change(function: Change) -> Change:
    CHANGES[function.__name__] = function
    return function


def mutate(data: bytes, generator: np.random.Generator) -> tuple[str, bytes]:
    """Returns what was done and the damaged file; a tenth of the damages is done to the bytes, blindly."""
    if generator.random() < 0.1:
        return _mutate_bytes(data, generator)
    model = onnx.ModelProto.FromString(data)
    done = []
    names = sorted(CHANGES)
    weights = np.array([1.0 if name in _BLUNT else 4.0 for name in names])
    for _ in range(int(_one(generator, (1, 1, 1, 2, 3)))):
        name = str(generator.choice(names, p=weights / weights.sum()))
        try:
            CHANGES[name](model, generator)
            done.append(name)
        except (IndexError, DecodeError):
            # The model has no such part.
            done.append(f"no {name}")
    return "+".join(done), model.SerializeToString()


def _mutate_bytes(data: bytes, generator: np.random.Generator) -> tuple[str, bytes]:
    damaged = bytearray(data)
    kind = str(generator.choice(["cut", "flip", "flip near the end", "repeat", "zeros", "ff"]))
    where = int(generator.integers(0, len(damaged)))
    if kind == "cut":
        return kind, data[:where]
    if kind.startswith("flip"):
        for _ in range(int(generator.integers(1, 9))):
            # Graph structure stands in the first and the last bytes, weights between.
            near = len(damaged) - 1 - int(generator.integers(0, min(len(damaged), 2000)))
            place = near if kind != "flip" else int(generator.integers(0, len(damaged)))
            damaged[place] ^= 1 << int(generator.integers(0, 8))
    elif kind == "repeat":
        length = int(generator.integers(1, 4000))
        damaged[where:where] = damaged[where : where + length]
    else:
        length = int(generator.integers(1, 64))
        damaged[where : where + length] = (b"\0" if kind == "zeros" else b"\xff") * len(damaged[where : where + length])
    return kind, bytes(damaged)


def _one(generator, items):
    items = list(items)
    if not items:
        raise IndexError
    return items[int(generator.integers(0, len(items)))]


def _names(model):
    found = [tensor.name for tensor in model.graph.initializer] + [value.name for value in model.graph.input]
    return found + [name for node in model.graph.node for name in node.output] + ["", "no such name"]


def _anything(generator, old):
    """Returns an integer that is hardly ever right, or nearly the old one."""
    return int(_one(generator, _SIZES)) if generator.random() < 0.6 else int(old) + int(generator.integers(-3, 4))


def _clipped(value, bits=64):
    return int(min(max(value, -(2 ** (bits - 1))), 2 ** (bits - 1) - 1))


@change
def dims(model, generator):
    tensor = _one(generator, (tensor for tensor in model.graph.initializer if tensor.dims))
    axis = int(generator.integers(0, len(tensor.dims)))
    tensor.dims[axis] = _clipped(_anything(generator, tensor.dims[axis]))


@change
def rank(model, generator):
    tensor = _one(generator, model.graph.initializer)
    if generator.random() < 0.5 and tensor.dims:
        tensor.dims.pop()
    else:
        tensor.dims.append(1)


@change
def input_shape(model, generator):
    value = _one(generator, (*model.graph.input, *model.graph.output))
    shape = value.type.tensor_type.shape
    dim = _one(generator, shape.dim)
    if generator.random() < 0.3:
        dim.dim_param = str(_one(generator, ["N", "", "x y", "∞"]))
    else:
        dim.dim_value = _clipped(_anything(generator, dim.dim_value))


@change
def input_type(model, generator):
    value = _one(generator, (*model.graph.input, *model.graph.output))
    kind = int(generator.integers(0, 4))
    if kind == 0:
        value.type.tensor_type.elem_type = int(generator.integers(0, 26))
    elif kind == 1:
        value.type.ClearField("tensor_type")
    elif kind == 2:
        value.type.tensor_type.ClearField("shape")
    else:
        value.type.sequence_type.elem_type.tensor_type.elem_type = 1


@change
def raw_length(model, generator):
    tensor = _one(generator, model.graph.initializer)
    raw = tensor.raw_data
    tensor.raw_data = raw[: int(generator.integers(0, len(raw) + 1))] if generator.random() < 0.7 else raw + b"\0\0\0\0"


@change
def element_type(model, generator):
    _one(generator, model.graph.initializer).data_type = int(generator.integers(0, 28))


@change
def values(model, generator):
    tensor = _one(generator, (t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT and t.raw_data))
    array = np.frombuffer(tensor.raw_data[: len(tensor.raw_data) // 4 * 4], np.float32).copy()
    share = _one(generator, (1.0, 0.5, 0.01))
    array[generator.random(array.size) < share] = _one(generator, _FLOATS)
    tensor.raw_data = array.tobytes()


@change
def zero_rows(model, generator):
    tensor = _one(
        generator, (t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT and len(t.dims) > 1)
    )
    array = numpy_helper.to_array(tensor).copy() if np.prod(tensor.dims) * 4 == len(tensor.raw_data) else None
    if array is None or array.size == 0:
        raise IndexError
    rows = np.moveaxis(array, int(generator.integers(0, 2)), 0)
    rows[generator.random(len(rows)) < 0.5] = 0
    tensor.raw_data = np.ascontiguousarray(array).tobytes()


@change
def integers(model, generator):
    tensor = _one(generator, (t for t in model.graph.initializer if t.data_type == TensorProto.INT64 and t.raw_data))
    array = np.frombuffer(tensor.raw_data[: len(tensor.raw_data) // 8 * 8], np.int64).copy()
    place = int(generator.integers(0, max(array.size, 1)))
    array[place] = _clipped(_anything(generator, array[place]))
    tensor.raw_data = array.tobytes()


@change
def attribute_value(model, generator):
    attribute = _one(generator, (a for node in model.graph.node for a in node.attribute))
    if attribute.type == AttributeProto.INT:
        attribute.i = _clipped(_anything(generator, attribute.i))
    elif attribute.type == AttributeProto.INTS and attribute.ints:
        place = int(generator.integers(0, len(attribute.ints)))
        attribute.ints[place] = _clipped(_anything(generator, attribute.ints[place]))
    elif attribute.type == AttributeProto.FLOAT:
        attribute.f = float(_one(generator, _FLOATS))
    elif attribute.type == AttributeProto.STRING:
        attribute.s = _one(generator, (b"", b"\xff\xfe", b"VALID", b"SAME_UPPER", b"linear", b"NOTSET", b"ij,jk->ik"))
    else:
        attribute.name = "value_float"


@change
def attribute_list(model, generator):
    attribute = _one(generator, (a for node in model.graph.node for a in node.attribute if a.ints))
    if generator.random() < 0.5:
        attribute.ints.pop()
    else:
        attribute.ints.append(int(_one(generator, _SIZES)))


@change
def attribute_gone(model, generator):
    node = _one(generator, (node for node in model.graph.node if node.attribute))
    del node.attribute[int(generator.integers(0, len(node.attribute)))]


@change
def attribute_type(model, generator):
    attribute = _one(generator, (a for node in model.graph.node for a in node.attribute))
    attribute.type = int(generator.integers(0, 15))


@change
def attribute_added(model, generator):
    node = _one(generator, model.graph.node)
    name = str(_one(generator, ("axis", "axes", "group", "pads", "strides", "perm", "keepdims", "dilations", "to")))
    value = int(_one(generator, _SIZES))
    node.attribute.append(helper.make_attribute(name, [value] * 2 if generator.random() < 0.5 else value))


@change
def operator(model, generator):
    _one(generator, model.graph.node).op_type = str(_one(generator, _OPERATORS))


@change
def domain(model, generator):
    _one(generator, model.graph.node).domain = str(_one(generator, _DOMAINS))


@change
def node_gone(model, generator):
    del model.graph.node[int(generator.integers(0, len(model.graph.node)))]


@change
def node_twice(model, generator):
    model.graph.node.add().CopyFrom(_one(generator, model.graph.node))


@change
def node_moved(model, generator):
    first, second = (_one(generator, model.graph.node) for _ in range(2))
    held = onnx.NodeProto()
    held.CopyFrom(first)
    first.CopyFrom(second)
    second.CopyFrom(held)


@change
def inputs_swapped(model, generator):
    node = _one(generator, (node for node in model.graph.node if len(node.input) > 1))
    node.input[0], node.input[1] = node.input[1], node.input[0]


@change
def input_other(model, generator):
    node = _one(generator, (node for node in model.graph.node if node.input))
    node.input[int(generator.integers(0, len(node.input)))] = str(_one(generator, _names(model)))


@change
def input_gone(model, generator):
    _one(generator, (node for node in model.graph.node if node.input)).input.pop()


@change
def input_more(model, generator):
    _one(generator, model.graph.node).input.append(str(_one(generator, _names(model))))


@change
def cycle(model, generator):
    node = _one(generator, (node for node in model.graph.node if node.input and node.output))
    node.input[0] = node.output[0]


@change
def output_other(model, generator):
    node = _one(generator, (node for node in model.graph.node if node.output))
    node.output[int(generator.integers(0, len(node.output)))] = str(_one(generator, _names(model)))


@change
def output_more(model, generator):
    _one(generator, model.graph.node).output.append(str(_one(generator, ("", "another", "another one"))))


@change
def outputs_gone(model, generator):
    del _one(generator, model.graph.node).output[:]


@change
def graph_output(model, generator):
    kind = int(generator.integers(0, 3))
    if kind == 0:
        _one(generator, model.graph.output).name = str(_one(generator, _names(model)))
    elif kind == 1:
        model.graph.output.add().CopyFrom(_one(generator, (*model.graph.output, *model.graph.input)))
    else:
        del model.graph.output[:]


@change
def graph_input(model, generator):
    kind = int(generator.integers(0, 3))
    if kind == 0:
        _one(generator, model.graph.input).name = str(_one(generator, _names(model)))
    elif kind == 1:
        model.graph.input.add().CopyFrom(_one(generator, (*model.graph.output, *model.graph.input)))
    else:
        del model.graph.input[int(generator.integers(0, len(model.graph.input)))]


@change
def versions(model, generator):
    kind = int(generator.integers(0, 4))
    if kind == 0 and model.opset_import:
        model.opset_import[0].version = int(
            _one(generator, (0, 1, 6, 7, 8, 9, 10, 11, 12, 13, 17, 21, 27, 100, -1, 2**62))
        )
    elif kind == 1:
        del model.opset_import[:]
    elif kind == 2:
        model.opset_import.add(domain="", version=int(_one(generator, (1, 9, 13, 22))))
    else:
        model.ir_version = int(_one(generator, (0, 1, 2, 3, 4, 9, 13, 14, 100, -1, 2**62)))


@change
def initializer_gone(model, generator):
    del model.graph.initializer[_one(generator, range(len(model.graph.initializer)))]


@change
def initializer_twice(model, generator):
    model.graph.initializer.add().CopyFrom(_one(generator, model.graph.initializer))


@change
def initializer_named(model, generator):
    _one(generator, model.graph.initializer).name = str(_one(generator, _names(model)))


@change
def initializer_outside(model, generator):
    tensor = _one(generator, model.graph.initializer)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=str(_one(generator, _PATHS)))
    if generator.random() < 0.5:
        tensor.external_data.add(key="length", value=str(_one(generator, (*_SIZES, "many"))))


@change
def initializer_sparse(model, generator):
    tensor = _one(generator, model.graph.initializer)
    sparse = model.graph.sparse_initializer.add(dims=tensor.dims)
    sparse.values.CopyFrom(tensor)
    sparse.indices.CopyFrom(numpy_helper.from_array(np.array([0, int(_one(generator, _SIZES))]), ""))


@change
def promised_shape(model, generator):
    name = str(_one(generator, _names(model)))
    shape = [int(_one(generator, _SIZES)) for _ in range(int(generator.integers(0, 6)))]
    model.graph.value_info.append(helper.make_tensor_value_info(name, int(generator.integers(1, 17)), shape))


@change
def strings(model, generator):
    tensor = _one(generator, model.graph.initializer)
    shape = list(tensor.dims)
    del tensor.dims[:]
    tensor.ClearField("raw_data")
    tensor.data_type = TensorProto.STRING
    tensor.dims.extend(shape if np.prod(shape) < 1000 else [1])
    tensor.string_data.extend([b"\xff"] * min(int(np.prod(shape)), 1000))


@change
def huge(model, generator):
    """An operator that makes much of little stands before another."""
    size = [int(_one(generator, (2**20, 2**31, 2**40, 2**62))) for _ in range(int(generator.integers(1, 4)))]
    kind = str(_one(generator, ("ConstantOfShape", "Expand", "Tile", "Range", "Pad", "Resize", "OneHot")))
    place = int(generator.integers(0, len(model.graph.node)))
    target = model.graph.node[place]
    if not target.input:
        raise IndexError
    given = {"ConstantOfShape": [size], "Range": [0, size[0], 1], "OneHot": [[1], size[0], [0.0, 1.0]]}
    inputs = given.get(kind, [[[1.0]], [1, *size]])
    names = [f"huge {index}" for index in range(len(inputs))]
    for name, value in zip(names, inputs, strict=True):
        array = np.asarray(value)
        array = array.astype(np.float32) if array.dtype.kind == "f" else array
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    model.graph.node.insert(place, helper.make_node(kind, names, ["huge"], name="huge"))
    target.input[0 if generator.random() < 0.5 else -1] = "huge"


@change
def nested(model, generator):
    """If inside If inside If, about as deep as a message may be."""
    inner = helper.make_graph([helper.make_node("Relu", ["no such name"], ["r"])], "g", [], [])
    for level in range(int(_one(generator, (3, 20, 24, 31, 48)))):
        branches = {"then_branch": inner, "else_branch": inner} if level < 3 else {"then_branch": inner}
        nodes = [helper.make_node("If", [str(_one(generator, _names(model)))], ["r"], **branches)]
        inner = helper.make_graph(nodes, "g", [], [helper.make_tensor_value_info("r", 1, None)])
    model.graph.node.extend(inner.node)


@change
def function(model, generator):
    """A function that calls itself, or another that calls it."""
    name, other = ("Self", "Self") if generator.random() < 0.5 else ("One", "Other")
    opset = [helper.make_opsetid("", 18), helper.make_opsetid("loop", 1)]
    for one, called in {name: other, other: name}.items():
        body = [helper.make_node(called, ["p"], ["q"], domain="loop")]
        model.functions.append(helper.make_function("loop", one, ["p"], ["q"], body, opset))
    model.opset_import.append(helper.make_opsetid("loop", 1))
    target = _one(generator, (node for node in model.graph.node if node.input))
    model.graph.node.insert(0, helper.make_node(name, [target.input[0]], ["called"], domain="loop"))
    target.input[0] = "called"


@change
def symbols(model, generator):
    """Names that tools might trip over."""
    old = str(_one(generator, [name for name in _names(model)[:-2] if name]))
    new = str(_one(generator, ("", " ", "a/b", "../x", "ü\n", "|", "x" * 3000, "__", "0")))
    for node in model.graph.node:
        for field in (node.input, node.output):
            for index, name in enumerate(field):
                if name == old:
                    field[index] = new
    for holder in (*model.graph.initializer, *model.graph.input, *model.graph.output):
        if holder.name == old:
            holder.name = new
