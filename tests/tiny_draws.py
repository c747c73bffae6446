"""Draws tiny networks by seed: layers as users stack them, with zeros, dead layers and constants at random places."""

import numpy as np
from tiny_networks import FIXED, FORWARD, Network, Op

SIDE = 4
SAMPLES = 10


class Builder:
    """A network under construction. Samples run along, so that no unit dies by an accident of signs.

    A ReLU whose inputs happen to be negative for every input is constant, but no zero says so: where an activation
    would make a constant of what varies, another one is taken.
    """

    def __init__(self, seed, budget):
        self.random = np.random.default_rng(seed)
        self.budget = budget
        self.network = Network(inputs={})
        self.values = {}
        self.last = ""

    def chance(self, probability):
        return self.random.random() < probability

    def choose(self, *options):
        return options[self.random.integers(len(options))]

    def start(self, *shape):
        x = self.random.standard_normal((SAMPLES, *shape))
        x *= _along(np.array([0, 1, 1, 1, 3, 3, 10, 10, 100, 1e-2]), x.ndim)
        self.network.inputs["input"] = shape
        self.last = self.put("input", x, {1: np.full(shape[0], FIXED)})

    def put(self, name, value, units):
        self.values[name], self.network.shapes[name], self.network.units[name] = value, value.shape, units
        return name

    def fresh(self, size):
        """Returns units for so many channels, or for as many as the budget leaves."""
        size = max(1, min(size, self.budget - self.network.size))
        units = np.arange(self.network.size, self.network.size + size)
        self.network.size += size
        return units

    def room(self):
        return self.budget - self.network.size

    def parameter(self, stem, value, **axes):
        name = f"{stem}{len(self.network.parameters)}"
        self.network.parameters[name] = value.astype(np.float32).astype(np.float64)
        self.network.units[name] = {int(axis[1:]): units for axis, units in axes.items()}
        return name

    def op(self, kind, inputs, units, outputs=1, grids=None, **options):
        name = f"{kind}{len(self.network.ops)}"
        outputs = [f"{name}.{index}" for index in range(outputs)] if outputs > 1 else [f"{name}.y"]
        op = Op(kind, name, tuple(inputs), tuple(outputs), options, grids or {})
        arrays = [self.values.get(name, self.network.parameters.get(name)) for name in inputs]
        found = FORWARD[kind](op, *arrays)
        found = found if isinstance(found, tuple) else (found,)
        if kind in ("activation", "clip", "prelu") and _varies(arrays[0])[~_varies(found[0])].any():
            return self.op("activation", inputs[:1], units, of="LeakyRelu")
        self.network.ops.append(op)
        per_output = units if isinstance(units, list) else [units]
        for output, value, of in zip(outputs, found, per_output, strict=True):
            self.put(output, value, of)
        self.last = outputs[0]
        return outputs[0] if len(outputs) == 1 else outputs

    def units(self, name, axis=1):
        return self.network.units[name][axis]

    def numbers(self, *shape):
        """Draws numbers far from zero."""
        return self.random.uniform(0.3, 1.3, shape) * self.random.choice([-1.0, 1.0], shape)

    def vector(self, size, zeros):
        return np.where(self.random.random(size) < zeros, 0, self.numbers(size))

    def weight(self, rows, columns, *kernel):
        """Draws a weight with zero rows, zero columns, zero entries, zero taps, or all zero."""
        w = self.numbers(rows, columns, *kernel)
        w[self.random.random((rows, columns)) < self.choose(0, 0, 0.3, 0.6)] = 0
        w[self.random.random(rows) < self.choose(0, 0.3, 0.5)] = 0
        w[:, self.random.random(columns) < self.choose(0, 0, 0.4)] = 0
        if self.chance(0.2):
            w[self.random.random(w.shape) < 0.3] = 0
        return w * (not self.chance(0.04))

    def bias(self, units):
        return [] if self.chance(0.2) else [self.parameter("b", self.vector(len(units), 0.4), _0=units)]

    def conv(self, x=None, rows=None, side=None, stride=1, width=None):
        x = x or self.last
        columns = self.units(x)
        extent = self.values[x].shape[2]
        side = side or (self.choose(1, 3) if extent >= 3 else 1)
        pad = 1 if side == 3 and (stride == 1 or self.chance(0.7)) else 0
        rows = self.fresh(width or self.random.integers(2, 5)) if rows is None else rows
        w = self.parameter("w", self.weight(len(rows), len(columns), side, side), _0=rows, _1=columns)
        return self.op("conv", [x, w, *self.bias(rows)], {1: rows}, pad=pad, stride=stride)

    def linear(self, rows=None, axis=1):
        x, columns = self.last, self.units(self.last, axis)
        rows = self.fresh(self.random.integers(2, 5)) if rows is None else rows
        w = self.weight(len(rows), len(columns))
        if axis == 1 and self.chance(0.5):
            w = self.parameter("w", w, _0=rows, _1=columns)
            return self.op("gemm", [x, w, *self.bias(rows)], {1: rows}, transposed=True)
        w = self.parameter("w", w.T, _0=columns, _1=rows)
        return self.op("matmul", [x, w, *self.bias(rows)], {axis: rows}, axis=axis)

    def batch_norm(self):
        units = self.units(self.last)
        size = len(units)
        zeros = self.choose(0, 0.3, 0.6)
        vectors = [self.vector(size, zeros), self.vector(size, 0.4), self.vector(size, 0.4)]
        vectors.append(self.random.uniform(0.5, 2, size))
        names = [self.parameter("n", vector, _0=units) for vector in vectors]
        return self.op("batch_norm", [self.last, *names], {1: units})

    def activation(self):
        units = self.network.units[self.last]
        kind = self.choose("relu", "relu", "relu", "clip", "prelu", "any", "any")
        if kind == "clip":
            return self.op("clip", [self.last], units)
        if kind == "prelu" and 1 in units and len(self.network.shapes[self.last]) == 4:
            slope = self.parameter("p", self.vector(len(units[1]), 0.3), _0=units[1])
            return self.op("prelu", [self.last, slope], units)
        of = "Relu" if kind == "relu" else self.choose("LeakyRelu", "Sigmoid", "HardSwish", "Tanh", "Elu", "Softplus")
        return self.op("activation", [self.last], units, of=of)


def _along(values, rank):
    return values.reshape([-1] + [1] * (rank - 1))


def _varies(value):
    """Tells which channels depend on the input. Shape: (channels,)."""
    axis = 1 if value.ndim != 3 else 2
    rows = np.moveaxis(value, axis, 0).reshape(value.shape[axis], -1)
    return np.ptp(rows, axis=1) > 1e-12


def stem(b):
    b.conv(stride=b.choose(1, 1, 2))
    if b.chance(0.5):
        b.batch_norm()
    if b.chance(0.7):
        b.activation()


def residual(b):
    start, shape, units = b.last, b.network.shapes[b.last], b.units(b.last)
    if b.chance(0.4):
        b.conv()
        b.activation()
    b.conv(rows=units)
    if b.chance(0.5):
        b.batch_norm()
    if b.network.shapes[b.last] == shape:
        b.op("add", [start, b.last] if b.chance(0.5) else [b.last, start], {1: units})
        if b.chance(0.6):
            b.activation()


def concatenation(b):
    start, extent = b.last, b.network.shapes[b.last][2]
    b.conv(width=2)
    if b.chance(0.5):
        b.activation()
    if b.network.shapes[b.last][2] == extent:
        parts = [start, b.last] if b.chance(0.5) else [b.last, start]
        b.op("concat", parts, {1: np.concatenate([b.units(part) for part in parts])}, axis=1)


def depthwise(b):
    side = 3 if b.network.shapes[b.last][2] >= 3 else 1
    pad = side // 2 if b.chance(0.7) else 0
    columns = b.units(b.last)
    if len(columns) > 1 and b.room() >= 2 * len(columns) and b.chance(0.5):
        # Two outputs a channel: as many of them go for each channel that stays.
        grouped_conv(b, len(columns), b.fresh(2 * len(columns)), side, pad)
        return
    name = b.parameter("w", b.weight(len(columns), 1, side, side), _0=columns)
    b.op("conv", [b.last, name, *b.bias(columns)], {1: columns}, pad=pad, stride=1, depthwise=True)


def grouped(b):
    if b.room() < 8:
        return
    b.conv(rows=b.fresh(4))
    if b.chance(0.5):
        b.activation()
    side = b.choose(1, 3) if b.network.shapes[b.last][2] >= 3 else 1
    grouped_conv(b, 2, b.fresh(4), side, side // 2 if b.chance(0.6) else 0)


def grouped_conv(b, groups, rows, side, pad):
    columns = b.units(b.last)
    name = b.parameter("w", b.weight(len(rows), len(columns) // groups, side, side))
    grids = {"rows": rows.reshape(groups, -1), "columns": columns.reshape(groups, -1)}
    b.op("conv", [b.last, name, *b.bias(rows)], {1: rows}, grids=grids, pad=pad, stride=1, groups=groups)


def shuffle(b):
    units = b.units(b.last)
    if len(units) % 2 == 0 and len(units) > 2:
        grid = units.reshape(2, -1)
        b.op("shuffle", [b.last], {1: grid.T.reshape(-1)}, grids={"all": grid})


def split(b):
    start, units = b.last, b.units(b.last)
    first = len(units) // 2
    if first == 0:
        return
    parts = b.op(
        "split", [start], [{1: units[:first]}, {1: units[first:]}], outputs=2, sizes=[first, len(units) - first]
    )
    b.last = parts[0]
    b.activation()
    joined = [b.last, parts[1]] if b.chance(0.5) else [parts[1], b.last]
    b.op("concat", joined, {1: np.concatenate([b.units(part) for part in joined])}, axis=1)


def tail(b):
    units = b.units(b.last)
    if len(units) > 2:
        b.op("slice", [b.last], {1: units[1:]}, size=len(units) - 1)


def gate(b):
    start, units = b.last, b.units(b.last)
    b.op("global_pool", [start], {1: units})
    if b.chance(0.5):
        b.conv(side=1, width=2)
        b.op("activation", [b.last], {1: b.units(b.last)}, of="Relu")
    b.conv(side=1, rows=units)
    b.op("activation", [b.last], {1: units}, of=b.choose("Sigmoid", "HardSigmoid", "Relu"))
    b.op("mul", [start, b.last], {1: units})


def pool(b):
    if b.network.shapes[b.last][2] >= 2:
        options = {"of": b.choose("max", "mean"), "side": 2, "pad": int(b.chance(0.3)), "counts_padding": b.chance(0.5)}
        b.op("pool", [b.last], {1: b.units(b.last)}, stride=b.choose(1, 2), **options)


def upsample(b):
    if b.network.shapes[b.last][2] > SIDE:
        return
    if b.chance(0.5):
        b.op("upsample", [b.last], {1: b.units(b.last)})
        return
    columns, rows = b.units(b.last), b.fresh(2)
    w = b.parameter("w", b.weight(len(columns), len(rows), 2, 2), _0=columns, _1=rows)
    b.op("deconv", [b.last, w, *b.bias(rows)], {1: rows})


def shared(b):
    """One weight, used twice."""
    units = b.units(b.last)
    side = 3 if b.network.shapes[b.last][2] >= 3 else 1
    w = b.parameter("w", b.weight(len(units), len(units), side, side), _0=units, _1=units)
    for _ in range(2):
        b.op("conv", [b.last, w, *b.bias(units)], {1: units}, pad=side // 2, stride=1)
        b.activation()


def second_output(b):
    here = b.last
    b.conv(rows=np.full(1, FIXED), side=1)
    b.network.outputs.append(b.last)
    b.last = here


IMAGE_LAYERS = (
    stem,
    stem,
    residual,
    residual,
    concatenation,
    depthwise,
    grouped,
    shuffle,
    split,
    tail,
    gate,
    pool,
    upsample,
    shared,
    second_output,
    Builder.activation,
    Builder.batch_norm,
)


def dense(b):
    b.linear()
    if b.chance(0.3):
        b.batch_norm()
    if b.chance(0.7):
        b.activation()


def dense_residual(b):
    start, units = b.last, b.units(b.last)
    if b.chance(0.5):
        b.linear()
        b.activation()
    b.linear(rows=units)
    b.op("add", [start, b.last], {1: units})


VECTOR_LAYERS = (dense, dense, dense_residual, split, tail, Builder.activation, Builder.batch_norm)


def attention(b):
    """Attention over the tokens of an image.

    Keys and values read nothing that is the same for all tokens: a softmax does not show it, and no zero says so.
    """
    b.op("tokens", [b.last], {2: b.units(b.last)})
    here = b.last
    heads = 2 if b.room() >= 6 and b.chance(0.7) else 1
    inner, mixed = b.fresh(2 * heads), b.fresh(4 if heads > 1 else 3)
    heads = heads if len(inner) == len(mixed) == 4 else 1
    names = []
    for rows in (inner, inner, mixed):
        columns = b.units(here, 2)
        w = b.weight(len(rows), len(columns)).T
        if names:
            apart = np.ptp(b.values[here], axis=1).max(axis=0) > 1e-12
            w[~apart] = 0
        w = b.parameter("w", w, _0=columns, _1=rows)
        names.append(b.op("matmul", [here, w], {2: rows}, axis=2))
    grids = {"inner": inner.reshape(heads, -1), "mixed": mixed.reshape(heads, -1)}
    b.op("attention", names, {2: mixed}, grids=grids)
    b.linear(rows=np.full(2, FIXED), axis=2)


def head(b):
    kind = b.choose("pooled", "flat", "conv", "raw", "attention", "attention")
    if kind == "raw" and b.chance(0.3):
        return
    if kind == "attention" and b.network.shapes[b.last][2] > 1:
        attention(b)
        return
    if kind == "conv":
        b.conv(rows=np.full(2, FIXED))
        return
    if kind == "pooled":
        b.op("global_pool", [b.last], {1: b.units(b.last)})
    shape = b.network.shapes[b.last]
    b.op("flatten", [b.last], {1: b.units(b.last).repeat(shape[2] * shape[3])})
    b.linear(rows=np.full(2, FIXED))


def draw(seed, budget=10):
    """Returns (network, samples) by seed; the network has at most about `budget` units."""
    b = Builder(seed, budget)
    if b.chance(0.25):
        b.start(3)
        layers, last = VECTOR_LAYERS, lambda b: b.linear(rows=np.full(2, FIXED))
        dense(b)
    else:
        b.start(2, SIDE, SIDE)
        layers, last = IMAGE_LAYERS, head
        stem(b)
    for _ in range(b.random.integers(1, 6)):
        layer = layers[b.random.integers(len(layers))]
        if b.network.size < budget or layer in (Builder.activation, Builder.batch_norm, pool, split, tail, shuffle):
            layer(b)
    last(b)
    b.network.outputs.append(b.last)
    read = {name for op in b.network.ops for name in op.inputs}
    b.network.parameters = {name: value for name, value in b.network.parameters.items() if name in read}
    b.network.units = {n: u for n, u in b.network.units.items() if n in b.values or n in read}
    return b.network, b.values["input"]
