"""Files that nobody should open: each ends in one line, in the original with a reason, or in a proven result."""

import importlib.util
import itertools
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from compress.check.verb import measure
from compress.errors import CompressError, ModelFileError
from compress.onnx_io import runtime as runtime_module
from compress.onnx_io.cost import onnx_cost
from compress.onnx_io.file import read_model
from compress.onnx_io.process import RunError
from compress.onnx_io.runtime import Runtime, borrowed_runtime
from compress.rewrite import explain, rewrite

F, I64 = TensorProto.FLOAT, TensorProto.INT64
MUTATIONS = int(os.environ.get("COMPRESS_MUTATIONS", "150"))
FUZZ = Path(__file__).resolve().parents[2] / "benchmarks" / "fuzz"


def load(name):
    specification = importlib.util.spec_from_file_location(f"fuzz_{name}", FUZZ / f"{name}.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


seeds, mutations = load("seeds"), load("mutations")


def sound():
    return seeds.convolutions()


def ending(path):
    """Runs the verbs that read a model; returns how `rewrite` ends: the one line of its error, or its result."""
    for verb in (measure, explain):
        try:
            verb(path)
        except CompressError as error:
            require_one_line(error)
    try:
        return rewrite(path)
    except CompressError as error:
        return require_one_line(error)


def require_one_line(error):
    (line,) = str(error).splitlines()
    return line


def written(tmp_path, data):
    path = tmp_path / "model.onnx"
    path.write_bytes(data if isinstance(data, bytes) else data.SerializeToString())
    return path


def model(nodes, weights, inputs=None, outputs=None, opset=18):
    return seeds.model(nodes, inputs or {"x": [1, 4]}, outputs or {"y": ["A", "B"]}, weights, opset=opset)


def field(number, content):
    """Returns a length-delimited field of a protobuf message."""
    length, size = b"", len(content)
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


def nested(depth):
    graph = field(2, b"g")
    for _ in range(depth):
        attribute = field(1, b"then_branch") + field(6, graph) + b"\xa0\x01\x05"
        graph = field(1, field(1, b"c") + field(4, b"If") + field(5, attribute)) + field(2, b"g")
    return b"\x08\x08" + field(7, graph) + field(8, b"\x10\x12")


def with_dims(*dims):
    damaged = sound()
    del damaged.graph.initializer[0].dims[:]
    damaged.graph.initializer[0].dims.extend(dims)
    return damaged


def with_raw(raw):
    damaged = sound()
    damaged.graph.initializer[0].raw_data = raw
    return damaged


def with_location(location, **more):
    damaged = sound()
    tensor = damaged.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **more}.items():
        tensor.external_data.add(key=key, value=value)
    return damaged


def with_cycle():
    damaged = sound()
    damaged.graph.node[0].input[0] = damaged.graph.node[2].output[0]
    return damaged


def with_names_twice():
    damaged = sound()
    damaged.graph.node[1].output[0] = damaged.graph.node[0].output[0]
    return damaged


def with_initializer_twice():
    damaged = sound()
    damaged.graph.initializer.add().CopyFrom(damaged.graph.initializer[0])
    return damaged


def without_initializer():
    damaged = sound()
    del damaged.graph.initializer[0]
    return damaged


def with_strings():
    damaged = sound()
    damaged.graph.initializer.add(name="s", data_type=TensorProto.STRING, dims=[2]).string_data.extend([b"a", b"\xff"])
    return damaged


def with_raw_strings():
    damaged = sound()
    damaged.graph.initializer.add(name="s", data_type=TensorProto.STRING, dims=[1], raw_data=b"12345678")
    return damaged


def with_sparse(indices):
    damaged = sound()
    sparse = damaged.graph.sparse_initializer.add(dims=[4, 5])
    sparse.values.CopyFrom(numpy_helper.from_array(np.ones(2, np.float32), "sparse"))
    sparse.indices.CopyFrom(numpy_helper.from_array(np.array(indices), ""))
    return damaged


def with_self_call():
    damaged = sound()
    body = [helper.make_node("Self", ["p"], ["q"], domain="loop")]
    opset = [helper.make_opsetid("", 18), helper.make_opsetid("loop", 1)]
    damaged.functions.append(helper.make_function("loop", "Self", ["p"], ["q"], body, opset))
    damaged.opset_import.append(helper.make_opsetid("loop", 1))
    damaged.graph.node.insert(0, helper.make_node("Self", ["x"], ["called"], domain="loop"))
    damaged.graph.node[1].input[0] = "called"
    return damaged


def with_functions_in_functions(depth):
    damaged = sound()
    opset = [helper.make_opsetid("", 18), helper.make_opsetid("twice", 1)]
    for level in range(depth):
        called, domain = (f"f{level + 1}", "twice") if level < depth - 1 else ("Relu", "")
        body = [helper.make_node(called, [a], [b], domain=domain) for a, b in ("pm", "mq")]
        damaged.functions.append(helper.make_function("twice", f"f{level}", ["p"], ["q"], body, opset))
    damaged.opset_import.append(helper.make_opsetid("twice", 1))
    damaged.graph.node.insert(0, helper.make_node("f0", ["x"], ["called"], domain="twice"))
    damaged.graph.node[1].input[0] = "called"
    return damaged


def with_element_type(number):
    damaged = sound()
    damaged.graph.input[0].type.tensor_type.elem_type = number
    return damaged


def with_ir_version(number):
    damaged = sound()
    damaged.ir_version = number
    return damaged


def with_attribute(name, value):
    damaged = sound()
    node = damaged.graph.node[0]
    del node.attribute[:]
    node.attribute.append(helper.make_attribute(name, value))
    return damaged


def sized(operator, sizes, step=1):
    """A model that makes `sizes` of little and sums it up."""
    one = {"ConstantOfShape": "size", "Range": "zero size unit", "Expand": "x size", "Tile": "x size"}[operator]
    nodes = [
        seeds.node(operator, one, "big"),
        seeds.node("Cast", "big", "float", to=F),
        seeds.node("ReduceSum", "float", "sum"),
        seeds.node("Mul", "x sum", "y"),
    ]
    size = np.int64(sizes) if operator == "Range" else np.array(sizes)
    return model(nodes, {"size": size, "zero": np.int64(0), "unit": np.int64(step)})


def ranked():
    """A shape of 2^31 numbers: the tensor that is reshaped to it has as many axes."""
    nodes = [
        seeds.node("ConstantOfShape", "size", "shape", value=numpy_helper.from_array(np.ones(1, np.int64))),
        seeds.node("Reshape", "x shape", "y"),
    ]
    return model(nodes, {"size": np.array([2**31])})


def gathered(index):
    nodes = [seeds.node("Gather", "w index", "g"), seeds.node("Mul", "x g", "y")]
    return model(nodes, {"w": np.arange(4, dtype=np.float32), "index": np.array([index])})


REFUSED = {
    "cut in the middle": lambda: sound().SerializeToString()[:700],
    "cut by one byte": lambda: sound().SerializeToString()[:-1],
    "one byte": lambda: b"\x08",
    "noise": lambda: np.random.default_rng(0).bytes(5000),
    "subgraphs 3,000 deep": lambda: nested(3000),
    "subgraphs 40 deep": lambda: nested(40),
    "a weight of 2^62": lambda: with_dims(2**62),
    "a weight of 2^124": lambda: with_dims(2**62, 2**62),
    "a negative size": lambda: with_dims(-6, -27),
    "data too short": lambda: with_raw(b"\0" * 4),
    "data too long": lambda: with_raw(b"\0" * 5000),
    "no data": lambda: with_raw(b""),
    "data outside the folder": lambda: with_location("../../../../etc/passwd"),
    "data at an absolute path": lambda: with_location("/etc/passwd"),
    "data in a folder": lambda: with_location("."),
    "data in a device": lambda: with_location("/dev/zero", length="648"),
    "data in the model itself": lambda: with_location("model.onnx", offset="0", length="648000"),
    "data before the file": lambda: with_location("model.onnx", offset="-648", length="648"),
    "a cycle": with_cycle,
    "a value made twice": with_names_twice,
    "a weight given twice": with_initializer_twice,
    "a weight that is missing": without_initializer,
    "text that is no text": with_strings,
    "text in raw bytes": with_raw_strings,
    "a sparse weight out of its bounds": lambda: with_sparse([0, 2**40]),
    "a function that calls itself": with_self_call,
    "2^60 calls of functions": lambda: with_functions_in_functions(60),
    "a Range to 2^62": lambda: sized("Range", 2**62),
    "a Range that does not move": lambda: sized("Range", 10, step=0),
    "an element type that does not exist": lambda: with_element_type(99),
    "no element type": lambda: with_element_type(0),
    "an input of text": lambda: with_element_type(TensorProto.STRING),
    "a format of the future": lambda: with_ir_version(2**31 - 1),
    "a format of no time": lambda: with_ir_version(-1),
    "a stride of 0": lambda: with_attribute("strides", [0, 0]),
    "a number where a list belongs": lambda: with_attribute("pads", 1),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_damaged_file_is_refused_in_one_line(tmp_path, name):
    found = ending(written(tmp_path, REFUSED[name]()))
    assert isinstance(found, str), found.notes


def endless():
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Add", ["a", "x"], ["b"])],
        "body",
        [
            helper.make_tensor_value_info("i", I64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("a", F, [1, 4]),
        ],
        [helper.make_tensor_value_info("on", TensorProto.BOOL, []), helper.make_tensor_value_info("b", F, [1, 4])],
    )
    return model([helper.make_node("Loop", ["trips", "", "x"], ["y"], body=body)], {"trips": np.int64(2**62)}, opset=18)


UNUSABLE = {
    "a shape of 2^31 numbers": ranked,
    "an index of -2^63": lambda: gathered(-(2**63)),
    "a group of 0": lambda: with_attribute("group", 0),
    "a negative group": lambda: with_attribute("group", -3),
    "pads beyond all bounds": lambda: with_attribute("pads", [2**62] * 4),
    "ConstantOfShape of 2^40": lambda: sized("ConstantOfShape", [2**20, 2**20]),
    "ConstantOfShape of 2^62": lambda: sized("ConstantOfShape", [2**31, 2**31]),
    "Expand to 2^40": lambda: sized("Expand", [2**20, 2**18, 4]),
    "Tile to 2^40": lambda: sized("Tile", [2**19, 2**19]),
    "Loop without end": endless,
}


@pytest.mark.parametrize("steps", [[], ["Cast"], ["Cast", "Reshape"], ["Squeeze", "Unsqueeze", "Cast"]])
@pytest.mark.parametrize(("operator", "tried"), [("Slice", 0), ("ConstantOfShape", 1), ("Tile", 1)])
def test_only_what_may_be_a_size_is_tried_elsewhere(tmp_path, monkeypatch, operator, tried, steps):
    """The end of a slice is commonly the largest integer, and may come through casts and the like."""
    asked = []
    monkeypatch.setattr(Runtime, "infer", lambda self, model: asked.append(len(model)))
    names = ["far", *(f"far{index}" for index in range(len(steps)))]
    beside = {"Reshape": "one", "Squeeze": "zero", "Unsqueeze": "zero"}
    nodes = []
    for step, (a, b) in zip(steps, itertools.pairwise(names), strict=True):
        more = {"to": I64} if step == "Cast" else {}
        nodes.append(helper.make_node(step, [a, beside[step]] if step in beside else [a], [b], **more))
    inputs = {"Slice": ["x", "zero", names[-1]], "ConstantOfShape": [names[-1]], "Tile": ["x", names[-1]]}[operator]
    nodes.append(helper.make_node(operator, inputs, ["y"]))
    held = {"far": np.array([2**63 - 1]), "zero": np.array([0]), "one": np.array([1])}
    read_model(written(tmp_path, model(nodes, held, inputs={"x": [4]}, outputs={"y": [4]})))
    assert len(asked) == tried


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_model_that_does_not_run_is_left_alone(tmp_path, name, monkeypatch):
    monkeypatch.setattr(runtime_module, "TIME_LIMIT_S", 1.0)
    monkeypatch.setattr(runtime_module, "_idle", [])
    found = ending(written(tmp_path, UNUSABLE[name]()))
    for idle in runtime_module._idle:
        idle.close()
    if not isinstance(found, str):
        assert not found.proven
        assert found.model == rewrite_input(tmp_path)
        assert "the original is kept" in found.notes[0]


def rewrite_input(tmp_path):
    import onnx

    return onnx.load(tmp_path / "model.onnx")


def test_a_crash_of_the_runtime_is_a_finding(tmp_path):
    damaged = model(
        [helper.make_node("Split", ["x"], ["", "y"], axis=1, num_outputs=2, name="split")], {}, outputs={"y": [1, 2]}
    )
    found = ending(written(tmp_path, damaged))
    text = found if isinstance(found, str) else " ".join(found.notes)
    assert "ONNX Runtime crashed (signal" in text or "refused by ONNX Runtime" in text


def test_the_runtime_is_replaced_when_it_dies():
    data = sound().SerializeToString()
    feeds = {"x": np.ones((1, 3, 8, 8), np.float32)}
    runtime = Runtime()
    try:
        session = runtime.open(data)
        (expected,) = session.run(feeds)
        os.kill(runtime._process.pid, signal.SIGSEGV)
        runtime._process.wait()
        (found,) = session.run(feeds)
        np.testing.assert_array_equal(found, expected)
        assert runtime.generation == 2
    finally:
        runtime.close()


def test_a_death_while_running_is_told_with_its_signal():
    runtime = Runtime()
    try:
        session = runtime.open(sound().SerializeToString())
        os.kill(runtime._process.pid, signal.SIGSTOP)
        runtime.time_limit_s = 0.2
        with pytest.raises(RunError, match=r"no answer within 0\.2 s") as error:
            session.run({"x": np.ones((1, 3, 8, 8), np.float32)})
        assert error.value.died
    finally:
        runtime.close()


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGSTOP])
def test_a_model_that_ends_the_runtime_when_it_is_closed_costs_the_next_one_nothing(ending):
    data, feeds = sound().SerializeToString(), {"x": np.ones((1, 3, 8, 8), np.float32)}
    runtime = Runtime()
    try:
        first, second = runtime.open(data), runtime.open(data)
        expected = second.run(feeds)
        os.kill(runtime._process.pid, ending)
        runtime.time_limit_s = 1
        first.close()
        np.testing.assert_array_equal(second.run(feeds), expected)
        assert runtime.generation == 2
        assert runtime.open(data).run(feeds)
    finally:
        runtime.close()


def test_a_model_is_let_go_of_by_a_runtime_that_has_died():
    data, feeds = sound().SerializeToString(), {"x": np.ones((1, 3, 8, 8), np.float32)}
    runtime = Runtime()
    try:
        first, second = runtime.open(data), runtime.open(data)
        os.kill(runtime._process.pid, signal.SIGSTOP)
        runtime.time_limit_s = 0.2
        with pytest.raises(RunError, match="no answer"):
            first.run(feeds)
        first.close()
        second.close()
        runtime.time_limit_s = 60
        assert runtime.open(data).run(feeds)
        assert runtime.generation == 2
    finally:
        runtime.close()


@pytest.mark.parametrize("ending", [None, signal.SIGKILL, signal.SIGSTOP])
def test_a_model_that_nobody_waits_for_costs_the_next_one_nothing(ending):
    data, feeds = sound().SerializeToString(), {"x": np.ones((1, 3, 8, 8), np.float32)}
    runtime = Runtime()
    try:
        expected = runtime.open(data).run(feeds)
        pending = runtime.open(data, wait=False)
        if ending is not None:
            os.kill(runtime._process.pid, ending)
        runtime.time_limit_s = 1
        pending.close()
        np.testing.assert_array_equal(runtime.open(data).run(feeds), expected)
        assert runtime.generation == (1 if ending is None else 2)
    finally:
        runtime.close()


def test_a_death_while_a_model_opens_is_told_to_whoever_waits_for_it():
    data = sound().SerializeToString()
    runtime = Runtime()
    try:
        runtime.open(data)
        os.kill(runtime._process.pid, signal.SIGSTOP)
        pending = runtime.open(data, wait=False)
        os.kill(runtime._process.pid, signal.SIGKILL)
        with pytest.raises(ModelFileError, match=r"the model cannot be run: ONNX Runtime crashed .*SIGKILL"):
            pending.wait()
        pending.close()
        assert runtime.open(data).outputs
    finally:
        runtime.close()


def test_what_the_runtime_refuses_is_told_before_what_an_analysis_says(tmp_path, monkeypatch):
    def fails(*_, **__):
        raise ValueError("cannot be analysed")

    monkeypatch.setattr("compress.rewrite.analysis.channel_graph", fails)
    damaged = sound()
    assert "cannot be analysed" in rewrite(written(tmp_path, damaged)).notes[0]
    damaged.ir_version = 10_000
    with pytest.raises(ModelFileError, match="it has IR version 10000"):
        rewrite(damaged)


def test_the_runtime_returns_what_a_session_here_does():
    from compress.onnx_io.session import random_inputs, session

    for make in seeds.SEEDS.values():
        data = make().SerializeToString()
        feeds = random_inputs(make(), 1, batch_size=2)
        with borrowed_runtime() as runtime:
            remote = runtime.open(data)
            found = remote.run(feeds)
            remote.close()
        for a, b in zip(session(data).run(None, feeds), found, strict=True):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype


def test_a_model_that_the_runtime_refuses_says_why():
    damaged = sound()
    damaged.ir_version = 10_000
    with borrowed_runtime() as runtime, pytest.raises(ModelFileError, match="it has IR version 10000"):
        runtime.open(damaged.SerializeToString())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform cannot fork")
def test_a_crash_of_the_command_is_one_line(tmp_path):
    import subprocess

    # What a library's crash looks like from outside: the working process ends itself by a signal.
    program = (
        "import os, signal, sys\n"
        "from compress.cli import guard\n"
        "guard.main = lambda: os.kill(os.getpid(), signal.SIGSEGV)\n"
        "sys.argv = ['compress', 'explain', 'x']\n"
        "guard.entry()\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("error: a library crashed on what explain was given (signal 11, SIGSEGV)")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("part", range(3))
def test_mutations_end_well(tmp_path, part, monkeypatch):
    monkeypatch.setattr(runtime_module, "TIME_LIMIT_S", 5.0)
    data = {name: make().SerializeToString() for name, make in seeds.SEEDS.items()}
    for number in range(part, MUTATIONS, 3):
        generator = np.random.default_rng([7, number])
        name = sorted(data)[number % len(data)]
        done, damaged = mutations.mutate(data[name], generator)
        try:
            ending(written(tmp_path, damaged or b"\0"))
        except Exception as error:
            raise AssertionError(f"case {number}: {name}, {done}") from error


@pytest.mark.parametrize("strange", [np.inf, -np.inf, np.nan, 3.4e38, -2e19])
@pytest.mark.parametrize("operator", ["MatMul", "Conv", "Gemm"])
@pytest.mark.parametrize("behind", ["", "Identity", "Neg", "Reshape"])
def test_zeros_that_infinity_reads_are_not_dead(operator, strange, behind):
    """0 · ∞, which large numbers soon make, is no number: without the channels of zeros the outputs would be."""
    taps = (1, 1) if operator == "Conv" else ()
    first, second = np.ones((4, 4, *taps), np.float32), np.full((4, 4, *taps), strange, np.float32)
    (first if operator == "Conv" else first.T)[:2] = 0
    stored = [numpy_helper.from_array(first, "a"), numpy_helper.from_array(second, "b")]
    nodes = [
        helper.make_node(operator, ["x", "a"], ["h"]),
        helper.make_node(operator, ["h", "c" if behind else "b"], ["y"]),
    ]
    if behind:
        shape = [numpy_helper.from_array(np.array(second.shape), "s")] if behind == "Reshape" else []
        nodes.insert(0, helper.make_node(behind, ["b", *(one.name for one in shape)], ["c"]))
        stored += shape
    sizes = [1, 4, 1, 1] if operator == "Conv" else [1, 4]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, sizes)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, sizes)],
        stored,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    result = rewrite(model)
    assert (result.channels_removed, result.notes) == (0, [])
    second[:] = 1
    graph.initializer[1].CopyFrom(numpy_helper.from_array(second, "b"))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    assert rewrite(model).channels_removed >= 2


def test_what_overflows_has_no_duplicates():
    """a · h + b · h is (a + b) · h but where h is infinite, as soon as its input is above 1: ∞ - ∞ is no number."""
    columns = np.array([[0.5, -0.25, 0.125, 3.4e38]] * 2 + [[1, 0, 0, 0]], np.float32).T
    stored = {"a": columns, "b": np.array([[1, 1], [1, -2], [1, 1]], np.float32)}
    nodes = [helper.make_node("MatMul", ["x", "a"], ["h"]), helper.make_node("MatMul", ["h", "b"], ["y"])]
    assert rewrite(model(nodes, stored, inputs={"x": [1, 4]}, outputs={"y": [1, 2]})).notes == []
    stored["a"] = np.where(columns > 1, 1, columns)
    found = rewrite(model(nodes, stored, inputs={"x": [1, 4]}, outputs={"y": [1, 2]}))
    assert found.notes == ["1 duplicate channels merged", "1 channels removed"]


def test_rules_that_trip_speak_of_the_model():
    """A running sum of a scalar has no axis; whoever asks for sizes is told of the model, as is who rewrites it."""
    node, held = helper.make_node("CumSum", ["s", "k"], ["y"]), {"s": np.float32(1), "k": np.int64(0)}
    scalar = model([node], held, outputs={"y": []})
    with pytest.raises(ModelFileError, match="the model cannot be analysed: ZeroDivisionError"):
        onnx_cost(scalar)
