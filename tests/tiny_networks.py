"""Tiny networks in which every position of every axis names its *unit*: what can only go as a whole.

They can be computed (float64, numpy), cut by units, and written as ONNX. Nothing here is shared with `compress`.
"""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from onnx import helper
from strategies import make_model

SPARE_BYTES = 4000
FIXED = -1  # the unit of positions that always stay


@dataclass(frozen=True)
class Op:
    """One operation: `inputs` are tensors, then parameters; `grids` hold units in rows and columns."""

    kind: str
    name: str
    inputs: tuple
    outputs: tuple
    options: dict = field(default_factory=dict)
    grids: dict = field(default_factory=dict)


@dataclass
class Network:
    """Operations in order; `units` gives, by tensor or parameter and axis, the unit of each position."""

    inputs: dict
    ops: list = field(default_factory=list)
    outputs: list = field(default_factory=list)
    parameters: dict = field(default_factory=dict)
    units: dict = field(default_factory=dict)
    shapes: dict = field(default_factory=dict)
    size: int = 0

    def contractions(self):
        return [op for op in self.ops if op.kind in CONTRACTIONS and not op.options.get("depthwise")]


def bordered(x, pad, border=0.0):
    """Pads space with `border` (a number, or one for each sample) times the value at the edge: 0 is zero padding."""
    wide = [(0, 0), (0, 0), (pad, pad), (pad, pad)]
    inside = np.pad(np.ones((1, 1, *x.shape[2:])), wide)
    return np.pad(x, wide, mode="edge") * (inside + (1 - inside) * border)


def convolve(x, w, groups=1, pad=0, stride=1, border=0.0):
    x = bordered(x, pad, border)
    side = w.shape[-1]
    windows = sliding_window_view(x, (side, side), axis=(2, 3))[:, :, ::stride, ::stride]
    n, c, height, width = windows.shape[:4]
    windows = windows.reshape(n, groups, c // groups, height, width, side, side)
    rows = w.reshape(groups, -1, *w.shape[1:])
    return np.einsum("ngihwab,goiab->ngohw", windows, rows).reshape(n, -1, height, width)


def _along(values, rank, axis=1):
    return values.reshape([-1 if a == axis % rank else 1 for a in range(rank)])


def _conv(op, x, w, b=None):
    groups = x.shape[1] if op.options.get("depthwise") else op.options.get("groups", 1)
    y = convolve(x, w, groups, op.options["pad"], op.options["stride"], op.options.get("border", 0.0))
    return y if b is None else y + _along(b, 4)


def _deconv(op, x, w, b=None):
    n, _, height, width = x.shape
    y = np.einsum("nihw,ioab->nohawb", x, w)
    y[:, :, :, 1:] *= np.reshape(op.options.get("border", 1.0), (-1, 1, 1, 1, 1, 1))
    y = y.reshape(n, -1, height * w.shape[2], width * w.shape[3])
    return y if b is None else y + _along(b, 4)


def _gemm(op, x, w, b=None):
    y = x @ (w.T if op.options.get("transposed") else w)
    return y if b is None else y + b


def _batch_norm(op, x, scale, shift, mean, variance):
    scale, shift, mean, variance = (_along(p, x.ndim) for p in (scale, shift, mean, variance))
    return (x - mean) / np.sqrt(variance + 1e-5) * scale + shift


def _pool(op, x):
    side, pad, stride = op.options["side"], op.options["pad"], op.options["stride"]
    largest = op.options["of"] == "max"
    counted = op.options.get("counts_padding", False)
    inside = np.pad(np.ones(x.shape[2:]), pad, constant_values=float(counted))
    x = bordered(x, pad, op.options.get("border", 0.0) if counted else 0.0)
    if largest:
        x[:, :, np.pad(np.ones(inside.shape - 2 * np.array(pad), bool), pad) == 0] = -np.inf
    windows = sliding_window_view(x, (side, side), axis=(2, 3))[:, :, ::stride, ::stride]
    if largest:
        return windows.max(axis=(4, 5))
    counts = sliding_window_view(inside, (side, side))[::stride, ::stride].sum(axis=(2, 3))
    return windows.sum(axis=(4, 5)) / counts


def _shuffle(op, x):
    rows = len(op.grids["all"])
    n, c, height, width = x.shape
    return x.reshape(n, rows, c // rows, height, width).swapaxes(1, 2).reshape(x.shape)


def _softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _attention(op, q, k, v):
    heads = len(op.grids["inner"])
    q, k, v = (t.reshape(*t.shape[:2], heads, -1).swapaxes(1, 2) for t in (q, k, v))
    found = _softmax(q @ k.swapaxes(2, 3) * 0.5) @ v
    return found.swapaxes(1, 2).reshape(found.shape[0], found.shape[2], -1)


ACTIVATIONS = {
    "Relu": (lambda x: np.maximum(x, 0), {}),
    "LeakyRelu": (lambda x: np.where(x < 0, 0.25 * x, x), {"alpha": 0.25}),
    "Sigmoid": (lambda x: 0.5 * (1 + np.tanh(0.5 * x)), {}),
    "HardSwish": (lambda x: x * np.clip(x / 6 + 0.5, 0, 1), {}),
    "HardSigmoid": (lambda x: np.clip(0.2 * x + 0.5, 0, 1), {}),
    "Tanh": (np.tanh, {}),
    "Elu": (lambda x: np.where(x < 0, np.expm1(np.minimum(x, 0)), x), {}),
    "Softplus": (lambda x: np.logaddexp(0, x), {}),
    "Identity": (lambda x: x, {}),
}

FORWARD = {
    "conv": _conv,
    "deconv": _deconv,
    "gemm": _gemm,
    "matmul": _gemm,
    "batch_norm": _batch_norm,
    "pool": _pool,
    "shuffle": _shuffle,
    "attention": _attention,
    "activation": lambda op, x: ACTIVATIONS[op.options["of"]][0](x),
    "clip": lambda op, x: np.clip(x, -0.5, 2.0),
    "prelu": lambda op, x, slope: np.where(x < 0, _along(slope, x.ndim) * x, x),
    "add": lambda op, *xs: sum(xs[1:], xs[0]),
    "mul": lambda op, x, y: x * y,
    "concat": lambda op, *xs: np.concatenate(xs, axis=op.options["axis"]),
    "slice": lambda op, x: x[:, -op.options["size"] :],
    "split": lambda op, x: tuple(np.split(x, np.cumsum(op.options["sizes"])[:-1], axis=1)),
    "global_pool": lambda op, x: x.mean(axis=(2, 3), keepdims=True),
    "flatten": lambda op, x: x.reshape(len(x), -1),
    "upsample": lambda op, x: x.repeat(2, axis=2).repeat(2, axis=3),
    "tokens": lambda op, x: x.reshape(*x.shape[:2], -1).swapaxes(1, 2),
}
CONTRACTIONS = ("conv", "deconv", "gemm", "matmul")


def run(network, feeds, correct=None):
    """Computes every tensor. `correct` may change what a contraction gives: (op, its inputs, its output) → output."""
    values = {name: value.astype(np.float64) for name, value in (feeds | network.parameters).items()}
    for op in network.ops:
        inputs = [values[name] for name in op.inputs]
        found = FORWARD[op.kind](op, *inputs)
        if correct is not None and op.kind in CONTRACTIONS and not op.options.get("depthwise"):
            found = correct(op, inputs, found)
        values.update(zip(op.outputs, found if isinstance(found, tuple) else (found,), strict=True))
    return values


def cut(network, keep):
    """Returns the network without the units that `keep` (booleans, one a unit) leaves out."""
    keep = np.append(keep, True)
    units = {n: {a: u[keep[u]] for a, u in axes.items()} for n, axes in network.units.items()}
    parameters = {}
    for name, value in network.parameters.items():
        parameters[name] = value
        for axis, of in network.units.get(name, {}).items():
            parameters[name] = parameters[name].take(np.flatnonzero(keep[of]), axis=axis)
    ops = []
    for op in network.ops:
        grids = {name: _cut_grid(grid, keep) for name, grid in op.grids.items()}
        options = dict(op.options)
        if op.kind == "slice":
            options["size"] = len(units[op.outputs[0]][1])
        if op.kind == "split":
            options["sizes"] = [len(units[name][1]) for name in op.outputs]
        if op.kind == "conv" and "rows" in op.grids:
            options["groups"] = len(grids["rows"])
            parameters[op.inputs[1]] = _cut_groups(network.parameters[op.inputs[1]], op.grids, keep)
        ops.append(replace(op, options=options, grids=grids))
    return replace(network, ops=ops, units=units, parameters=parameters)


def _cut_grid(grid, keep):
    mask = keep[grid]
    rows = [row[of] for row, of in zip(grid, mask, strict=True) if of.any()]
    return np.array(rows)


def _cut_groups(weight, grids, keep):
    rows, columns = grids["rows"], grids["columns"]
    by_group = weight.reshape(*rows.shape, *weight.shape[1:])
    blocks = zip(by_group, rows, columns, strict=True)
    return np.concatenate([w[keep[r]][:, keep[c]] for w, r, c in blocks if keep[r].any()])


def to_onnx(network, batch="N"):
    """Writes the network in float32; operators have the names of the operations."""
    constants = {name: value.astype(np.float32) for name, value in network.parameters.items()}
    nodes = []

    def constant(name, value):
        constants[name] = np.asarray(value)
        return name

    for op in network.ops:
        for number, (operator, inputs, outputs, attributes) in enumerate(_nodes(op, network, constant)):
            name = op.name if number == 0 else f"{op.name}.{number}"
            nodes.append(helper.make_node(operator, list(inputs), list(outputs), name=name, **attributes))
    shapes = {name: (batch, *network.shapes[name][1:]) for name in (*network.inputs, *network.outputs)}
    inputs = {name: shapes[name] for name in network.inputs}
    model = make_model(nodes, inputs, {name: shapes[name] for name in network.outputs}, constants, opset=17)
    # Room for a bias that a rewrite adds: whether a file of a kilobyte grows by a node is not the question here.
    model.graph.doc_string = " " * SPARE_BYTES
    return model


def _nodes(op, network, constant):
    x, y, options = op.inputs[0], op.outputs[0], op.options
    simple = {"add": "Add", "mul": "Mul", "global_pool": "GlobalAveragePool", "flatten": "Flatten"}
    if op.kind in simple:
        return [(simple[op.kind], op.inputs, op.outputs, {})]
    if op.kind == "conv":
        groups = network.shapes[x][1] if options.get("depthwise") else options.get("groups", 1)
        attributes = {"group": groups, "pads": [options["pad"]] * 4, "strides": [options["stride"]] * 2}
        return [("Conv", op.inputs, op.outputs, attributes)]
    if op.kind == "deconv":
        side = network.parameters[op.inputs[1]].shape[-1]
        return [("ConvTranspose", op.inputs, op.outputs, {"strides": [side] * 2})]
    if op.kind == "gemm":
        return [("Gemm", op.inputs, op.outputs, {"transB": int(options.get("transposed", False))})]
    if op.kind == "matmul":
        partial = f"{y}.partial" if len(op.inputs) > 2 else y
        nodes = [("MatMul", op.inputs[:2], [partial], {})]
        return [*nodes, ("Add", [partial, op.inputs[2]], [y], {})] if len(op.inputs) > 2 else nodes
    if op.kind == "batch_norm":
        return [("BatchNormalization", op.inputs, op.outputs, {"epsilon": 1e-5})]
    if op.kind == "activation":
        return [(options["of"], op.inputs, op.outputs, ACTIVATIONS[options["of"]][1])]
    if op.kind == "clip":
        low, high = constant(f"{y}.low", np.float32(-0.5)), constant(f"{y}.high", np.float32(2))
        return [("Clip", [x, low, high], op.outputs, {})]
    if op.kind == "prelu":
        slope = constant(f"{op.inputs[1]}", network.parameters[op.inputs[1]].astype(np.float32).reshape(-1, 1, 1))
        return [("PRelu", [x, slope], op.outputs, {})]
    if op.kind == "concat":
        return [("Concat", op.inputs, op.outputs, {"axis": options["axis"]})]
    if op.kind == "slice":
        size = network.shapes[x][1]
        values = {"starts": size - options["size"], "ends": size, "axes": 1}
        bounds = [constant(f"{y}.{name}", np.array([value], np.int64)) for name, value in values.items()]
        return [("Slice", [x, *bounds], op.outputs, {})]
    if op.kind == "split":
        return [("Split", [x, constant(f"{x}.sizes", np.array(options["sizes"], np.int64))], op.outputs, {"axis": 1})]
    if op.kind == "pool":
        side, pad = options["side"], options["pad"]
        attributes = {"kernel_shape": [side] * 2, "pads": [pad] * 4, "strides": [options["stride"]] * 2}
        if options["of"] == "max":
            return [("MaxPool", op.inputs, op.outputs, attributes)]
        attributes["count_include_pad"] = int(options["counts_padding"])
        return [("AveragePool", op.inputs, op.outputs, attributes)]
    if op.kind == "upsample":
        return [("Resize", [x, "", constant(f"{y}.scales", np.array([1, 1, 2, 2], np.float32))], op.outputs, {})]
    return _rearranging_nodes(op, network, constant)


def _rearranging_nodes(op, network, constant):
    y, shape = op.outputs[0], network.shapes[op.inputs[0]]

    def reshape(name, source, target, sizes):
        return ("Reshape", [source, constant(name, np.array(sizes, np.int64))], [target], {})

    if op.kind == "shuffle":
        rows = len(op.grids["all"])
        return [
            reshape(f"{y}.apart", op.inputs[0], f"{y}.a", [0, rows, shape[1] // rows, *shape[2:]]),
            ("Transpose", [f"{y}.a"], [f"{y}.b"], {"perm": [0, 2, 1, 3, 4]}),
            reshape(f"{y}.together", f"{y}.b", y, [0, shape[1], *shape[2:]]),
        ]
    if op.kind == "tokens":
        return [
            reshape(f"{y}.flat", op.inputs[0], f"{y}.a", [0, shape[1], shape[2] * shape[3]]),
            ("Transpose", [f"{y}.a"], [y], {"perm": [0, 2, 1]}),
        ]
    heads, nodes = len(op.grids["inner"]), []
    for source, axes, letter in zip(op.inputs, ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]), "qkv", strict=True):
        sizes = [0, shape[1], heads, network.shapes[source][2] // heads]
        nodes += [
            reshape(f"{y}.{letter}.sizes", source, f"{y}.{letter}.apart", sizes),
            ("Transpose", [f"{y}.{letter}.apart"], [f"{y}.{letter}"], {"perm": axes}),
        ]
    return [
        *nodes,
        ("MatMul", [f"{y}.q", f"{y}.k"], [f"{y}.scores"], {}),
        ("Mul", [f"{y}.scores", constant(f"{y}.scale", np.float32(0.5))], [f"{y}.scaled"], {}),
        ("Softmax", [f"{y}.scaled"], [f"{y}.shares"], {"axis": -1}),
        ("MatMul", [f"{y}.shares", f"{y}.v"], [f"{y}.mixed"], {}),
        ("Transpose", [f"{y}.mixed"], [f"{y}.back"], {"perm": [0, 2, 1, 3]}),
        reshape(f"{y}.joined", f"{y}.back", y, [0, shape[1], network.shapes[op.inputs[2]][2]]),
    ]
