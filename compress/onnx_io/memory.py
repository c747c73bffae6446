"""The memory that the activations of an ONNX graph need at once.

Nodes run in the order of the file; a value lives from the node that makes it to the last that reads it. Values share
a buffer where every runtime for small devices lets them: a reshape is its input, an elementwise operator works in
place where nothing else reads its input (what is fed and what is returned belongs to the caller), and a dequantized
value is its quantized original, since integer kernels read that. What follows from constants alone is computed
beforehand and counts nothing.
"""

from __future__ import annotations

from collections import Counter

from compress.onnx_io.shapes import Sized

_VIEWS = {"DequantizeLinear", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"}
_IN_PLACE = {
    "Abs",
    "BatchNormalization",
    "Celu",
    "Clip",
    "Elu",
    "Erf",
    "Exp",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "LeakyRelu",
    "Mish",
    "Neg",
    "PRelu",
    "QuantizeLinear",
    "Relu",
    "Selu",
    "Sigmoid",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Swish",
    "Tanh",
}


def peak_activation_bytes(graph: Sized) -> int | None:
    """Returns the largest sum of live activations in bytes, or None if the size of one is unknown.

    Args:
        graph: with shapes for some size of each input.
    """
    values, outputs, fed = graph.values, set(graph.outputs), set(graph.inputs)
    readers = Counter(name for node in graph.nodes for name in set(node.input))
    home: dict[str, str] = {}
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    size: dict[str, int] = {}

    def enter(name: str, position: int, buffer: str) -> bool:
        bytes_needed = values.size_bytes(name)
        if bytes_needed is None:
            return False
        home[name] = buffer
        first.setdefault(buffer, position)
        last[buffer] = max(last.get(buffer, position), len(graph.nodes) if name in outputs else position)
        # A buffer that a quantizer shares with its neighbours never holds the wide values.
        size[buffer] = min(size.get(buffer, bytes_needed), bytes_needed)
        return True

    if not all(enter(name, 0, name) for name in fed):
        return None
    for position, node in enumerate(graph.nodes):
        if values.constant(*node.output):
            continue
        for name in node.input:
            if name in home:
                last[home[name]] = max(last[home[name]], position)
        source = node.input[0] if node.input else ""
        alone = readers[source] == 1 and source not in outputs and home.get(source) not in fed
        shares = source in home and node.output[0] not in outputs
        shares &= node.op_type in _VIEWS or (node.op_type in _IN_PLACE and alone)
        for index, name in enumerate(node.output):
            if (
                name
                and (readers[name] or name in outputs)
                and not enter(name, position, home[source] if shares and index == 0 else name)
            ):
                return None
    live = [0] * (len(graph.nodes) + 2)
    for buffer, bytes_needed in size.items():
        live[first[buffer]] += bytes_needed
        live[last[buffer] + 1] -= bytes_needed
    peak = current = 0
    for change in live:
        current += change
        peak = max(peak, current)
    return peak
