"""For each operator of another domain or on integers: nodes from x (N, C, 4, 4) to y, and their constants."""

import numpy as np
from onnx import helper

C, SIDE = 6, 4
F, I8, U8, I32, I64 = np.float32, np.int8, np.uint8, np.int32, np.int64
MS = "com.microsoft"
# The levels of most tensors here: zero is level 7.
SCALE = {"s": F(0.05), "z": U8(7), "t": F(0.04), "u": U8(3)}


def node(operator, inputs="x", outputs="y", **attributes):
    return helper.make_node(operator, inputs.split(" "), outputs.split(" "), **attributes)


def dead_rows(g, *shape, zero=0, kind=I8):
    value = g.integers(-90, 90, shape).astype(kind)
    value[g.random(shape[0]) < 0.4] = zero
    return value


def flat(*, width=C):
    """Returns nodes from x to a (N, 16, C), and from d (N, 16, `width`) to y (N, `width`, 4, 4)."""
    return (
        [node("Reshape", "x flatten", "rows"), node("Transpose", "rows", "a", perm=[0, 2, 1])],
        [node("Transpose", "d", "turned", perm=[0, 2, 1]), node("Reshape", "turned square")],
        {"flatten": np.array([0, C, 16], I64), "square": np.array([0, width, SIDE, SIDE], I64)},
    )


def on_rows(nodes, constants, *, width=C):
    before, after, shapes = flat(width=width)
    return [*before, *nodes, *after], constants | shapes


def on_levels(nodes, constants, *, last="t u", dequantize=True):
    """Quantizes x to a; `nodes` go from a to d; dequantizes d to y."""
    after = [node("DequantizeLinear", f"d {last}")] if dequantize else []
    return [node("QuantizeLinear", "x s z", "a"), *nodes, *after], constants | SCALE


def integer_configurations(operator, g):
    """Returns (nodes, constants), or None for an operator that is not one of these."""
    weight = dead_rows(g, 4, 3, 1, 1)
    matrix = dead_rows(g, 5, C).T.copy()
    per_row = {"ws": g.uniform(0.01, 0.02, 4).astype(F), "wz": np.zeros(4, I8)}
    bias = np.where(weight.any(axis=(1, 2, 3)), g.integers(-90, 90, 4), [0, 0, -900, 0]).astype(I32)
    name = operator.partition("::")[2]
    pooled = {"channels_last": 0} if "Global" in name else {"kernel_shape": [2, 2], "pads": [1, 1, 0, 0]}
    return {
        "QLinearConv": lambda: on_levels(
            [node("QLinearConv", "a s z w ws wz t u b", "d", group=2, pads=[0, 1, 0, 1])],
                per_row | {"w": weight, "b": bias}
        ),
        "com.microsoft::QLinearConv": lambda: on_levels(
            [node("Transpose", "a", "n", perm=[0, 2, 3, 1]),
             node("QLinearConv", "n s z w ws wz t u b", "e", group=2, channels_last=1, domain=MS),
             node("Transpose", "e", "d", perm=[0, 3, 1, 2])], per_row | {"w": weight, "b": bias},
        ),
        "ConvInteger": lambda: on_levels(
            [node("ConvInteger", "a v z", "d"), node("Cast", "d", to=1)],
            {"v": dead_rows(g, 5, C, 3, 3, zero=9, kind=U8), "z": U8(7), "nine": U8(9)}, dequantize=False,
        ),
        "QLinearMatMul": lambda: on_levels(
            [node("Transpose", "a", "n", perm=[0, 2, 3, 1]), node("QLinearMatMul", "n s z w ws wz t u", "e"),
             node("Transpose", "e", "d", perm=[0, 3, 1, 2])],
            {"w": matrix, "ws": g.uniform(0.01, 0.02, 5).astype(F), "wz": np.zeros(5, I8)},
        ),
        "MatMulInteger": lambda: (
            [node("Transpose", "x", "n", perm=[0, 2, 3, 1]), node("DynamicQuantizeLinear", "n", "a p q"),
             node("MatMulInteger", "a w q wz", "i"), node("Cast", "i", "e", to=1), node("Mul", "e p", "f"),
             node("Transpose", "f", perm=[0, 3, 1, 2])], {"w": matrix, "wz": I8(0)},
        ),
        "com.microsoft::QGemm": lambda: on_levels(
            [node("GlobalMaxPool", "x", "m"), node("Flatten", "m", "k"), node("QuantizeLinear", "k s z", "l"),
             node("QGemm", "l s z w ws wz b t u", "e", transB=1, domain=MS), node("Unsqueeze", "e ax", "d")],
            {"w": matrix.T.copy(), "ws": F(0.01), "wz": I8(0), "b": np.arange(5).astype(I32) * 40 * matrix.any(axis=0),
             "ax": np.array([2, 3], I64)},
        ),
        **{f"com.microsoft::QLinear{kind}": (lambda kind=kind: on_levels(
            [node("QuantizeLinear", "v t u", "c"), node(f"QLinear{kind}", "a s z c t u s z", "d", domain=MS)],
            {"v": (np.arange(C) % 3 > 0).astype(F).reshape(1, C, 1, 1)}, last="s z")) for kind in ("Add", "Mul")},
        **{f"com.microsoft::QLinear{kind}": (lambda kind=kind: on_levels(
            [node(f"QLinear{kind}", "a s z t u", "d", domain=MS)], {})) for kind in ("Sigmoid", "LeakyRelu",
                "Softmax")},
        "com.microsoft::QLinearSoftmax": lambda: on_levels(
            [node("QLinearSoftmax", "a s z t u", "d", axis=1, opset=17, domain=MS)], {}
        ),
        "com.microsoft::QLinearConcat": lambda: on_levels(
            [node("QuantizeLinear", "x t u", "c"), node("QLinearConcat", "t u a s z c t u", "d", axis=1, domain=MS)], {}
        ),
        **{f"com.microsoft::{kind}": (lambda: on_levels(
            [node(name, "a s z t u", "d", domain=MS, **pooled)], {}))
           for kind in ("QLinearGlobalAveragePool", "QLinearAveragePool")},
        "DynamicQuantizeLinear": lambda: (
            [node("DynamicQuantizeLinear", "x", "a p q"), node("DequantizeLinear", "a p q")], {}
        ),
        "com.microsoft::DynamicQuantizeMatMul": lambda: on_rows(
            [node("DynamicQuantizeMatMul", "a w ws wz", "d", domain=MS)],
            {"w": matrix, "ws": F(0.01), "wz": I8(0)}, width=5,
        ),
        "com.microsoft::MatMulIntegerToFloat": lambda: on_rows(
            [node("QuantizeLinear", "a s z", "e"), node("MatMulIntegerToFloat", "e w s ws z wz", "d", domain=MS)],
            {"w": matrix, "ws": F(0.01), "wz": I8(0), **SCALE}, width=5,
        ),
    }.get(operator, lambda: None)()  # fmt: skip


def fused_configurations(operator, g):
    """Returns (nodes, constants), or None for an operator that is not one of these."""
    v = g.uniform(0.5, 1.5, C).astype(F)
    packed = g.standard_normal((C, 3 * C)).astype(F)
    shift = g.standard_normal(3 * C).astype(F)
    # The values of one of the three heads are zero.
    packed[:, 2 * C : 2 * C + 2] = shift[2 * C : 2 * C + 2] = 0
    projections = [node("MatMul", f"a m{i}", f"p{i}") for i in range(3)]
    weights = {f"m{i}": packed[:, i * C : (i + 1) * C].copy() for i in range(3)}
    square = {"q": np.array([0, 16, 3, 2], I64), "k": np.array([0, 16, C], I64)}
    return {
        **{f"com.microsoft::{kind}": (lambda kind=kind: ([node(kind, domain=MS)], {})) for kind in ("Gelu",
            "QuickGelu")},
        **{f"com.microsoft::{kind}": (lambda kind=kind: on_rows([node(kind, "a v", "d", domain=MS)], {"v": v}))
           for kind in ("BiasGelu", "FastGelu")},
        "com.microsoft::FusedMatMul": lambda: on_rows(
            [node("FusedMatMul", "a w", "d", transB=1, alpha=0.5, domain=MS)],
            {"w": g.standard_normal((5, C)).astype(F) * (np.arange(5) % 2).reshape(5, 1).astype(F)}, width=5,
        ),
        "com.microsoft::Attention": lambda: on_rows(
            [node("Attention", "a w b", "d", num_heads=3, domain=MS)], {"w": packed, "b": shift}
        ),
        "com.microsoft::MultiHeadAttention": lambda: on_rows(
            [*projections, node("MultiHeadAttention", "p0 p1 p2 b", "d", num_heads=3, domain=MS)],
                weights | {"b": shift}
        ),
        "Attention": lambda: on_rows(
            [*projections, *(n for i in range(3) for n in (node("Reshape", f"p{i} q", f"h{i}"),
                                                          node("Transpose", f"h{i}", f"g{i}", perm=[0, 2, 1, 3]))),
             node("Attention", "g0 g1 g2", "e"), node("Transpose", "e", "f", perm=[0, 2, 1, 3]),
             node("Reshape", "f k", "d")], weights | square,
        ),
        "com.microsoft::EmbedLayerNormalization": lambda: (
            [node("EmbedLayerNormalization", "i j wo po se v v", "d ", domain=MS), node("Transpose", "d", "e",
                perm=[0, 2, 1]),
             node("Unsqueeze", "e ax", "g"), node("Add", "x g")],
            {"i": np.array([[0, 1, 2, 3]], I32), "j": np.zeros((1, 4), I32), "v": v, "ax": np.array([2], I64),
             **{name: g.standard_normal((5, C)).astype(F) for name in ("wo", "po", "se")}},
        ),
        "com.microsoft::MatMulNBits": lambda: on_rows(
            [node("MatMulNBits", "a w ws", "d", K=C, N=5, bits=4, block_size=16, domain=MS)],
            {"w": g.integers(0, 255, (5, 1, 8)).astype(U8), "ws": g.uniform(0.1, 0.2, 5).astype(F)}, width=5,
        ),
        **{name: (lambda name=name: on_rows(
            [node("Reshape", "a q", "h"), node("Transpose", "h", "g", perm=[0, 2, 1, 3]),
             node("RotaryEmbedding", "g co si id" if not name.startswith("com") else "g id co si", "e",
                  **({"domain": MS} if name.startswith("com") else {})),
             node("Transpose", "e", "f", perm=[0, 2, 1, 3]), node("Reshape", "f k", "d")],
            square | {"id": np.array([list(range(16))] * 2, I64), "co": g.random((16, 1)).astype(F),
                      "si": g.random((16, 1)).astype(F)})) for name in ("RotaryEmbedding",
                          "com.microsoft::RotaryEmbedding")},
    }.get(operator, lambda: None)()  # fmt: skip
