"""The nine networks that onnx brings without weights, with random ones."""

import importlib.resources
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, numpy_helper

from compress.onnx_io.graph import channel_graph

FOLDER = Path(str(importlib.resources.files("onnx"))) / "backend/test/data/light"
IR_VERSION = 8
# A fully connected layer of 4096 makes a file of half a gigabyte and no harder question.
DENSE, NARROW = 4096, 512


def light_files() -> list[Path]:
    return sorted(FOLDER.glob("light_*.onnx"))


def filled(path: Path, seed: int = 0) -> ModelProto:
    """Returns a network whose computed weights are initializers."""
    model = onnx.load(path)
    graph, generator = model.graph, np.random.default_rng(seed)
    shapes = channel_graph(model).shapes
    computed = {node.output[0]: shapes[node.output[0]] for node in graph.node if node.op_type == "ConstantOfShape"}
    stored = {tensor.name for tensor in graph.initializer}
    roles = _roles(graph)
    for name, shape in computed.items():
        array = _drawn(roles.get(name, ""), tuple(NARROW if size == DENSE else size for size in shape), generator)
        graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
    rest = [node for node in graph.node if node.op_type != "ConstantOfShape"]
    if rest[-1].op_type == "Softmax":
        # Of logits that are far apart it shows one alone.
        graph.output[0].name = rest.pop().input[0]
    inputs = [value for value in graph.input if value.name not in stored]
    del graph.node[:], graph.input[:], graph.value_info[:]
    graph.node.extend(rest)
    graph.input.extend(inputs)
    read = {name for node in rest for name in node.input}
    unread = [tensor for tensor in graph.initializer if tensor.name not in read]
    for tensor in unread:
        graph.initializer.remove(tensor)
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model)
    return model


def _roles(graph: onnx.GraphProto) -> dict[str, str]:
    """Returns what each tensor is to the operator that reads it, through reshapes: ``"Conv 1"``, ``"Mul"``."""
    roles: dict[str, str] = {}
    for node in reversed(graph.node):
        for position, name in enumerate(node.input):
            passed = node.op_type in ("Unsqueeze", "Reshape") and position == 0
            own = node.op_type if node.op_type in ("Mul", "Add") else f"{node.op_type} {position}"
            roles[name] = roles.get(node.output[0], own) if passed else own
    return roles


def _drawn(role: str, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    if role in ("Mul", "BatchNormalization 1"):
        return generator.uniform(0.5, 1.5, shape)
    if role == "BatchNormalization 4":
        return generator.uniform(0.5, 2.0, shape)
    if role in ("Conv 1", "Gemm 1"):
        return generator.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
    return generator.normal(0, 0.2, shape)
