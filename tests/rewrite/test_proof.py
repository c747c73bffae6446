"""What a proof lets through, and what it does not."""

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from compress.errors import DataError
from compress.onnx_io.file import read_model
from compress.onnx_io.parts import FileParts
from compress.rewrite import proof as proof_module
from compress.rewrite import rewrite
from compress.rewrite.proof import Judge, prove

F = TensorProto.FLOAT
SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "models"
FASTESTDET = SHARED / "FastestDet__onnx-runtime__FastestDet.onnx"


def dense(shape=("N", 4), scale=1.0, name="x"):
    """A network whose first hidden channel is dead."""
    generator = np.random.default_rng(0)
    first, second = generator.standard_normal((4, 6)), generator.standard_normal((6, 3)) * scale
    first[:, 0] = 0
    weights = {"w0": first, "w1": second}
    nodes = [helper.make_node("MatMul", [name, "w0"], ["h"]), helper.make_node("MatMul", ["h", "w1"], ["y"])]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, F, list(shape))],
        [helper.make_tensor_value_info("y", F, [None] * (len(shape) - 1) + [3])],
        [numpy_helper.from_array(value.astype(np.float32), key) for key, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


class Scripted:
    """Stands for the runtime: sessions return what the script says of (original or result, with fusions or not)."""

    def __init__(self, script):
        self._script = script
        self._opened = {}

    def open(self, model, *, optimized=True, wait=True):
        which = self._opened.setdefault(model, len(self._opened))
        return Session(self._script[which, optimized])


class Session:
    outputs = ("y",)

    def __init__(self, value):
        self._value = value

    def wait(self):
        pass

    def run(self, feeds):
        return [np.full((1, 3), self._value, np.float64)]

    def close(self):
        self._value = None


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        # (original, result) with fusions; (original, result) without.
        ((1.0, 1.0, 1.0, 1.0), None),
        ((1.0, 1.01, 1.02, 1.02), None),  # the runtime is further from itself than the models are
        ((1.0, 1.01, 1.0, 1.01), "differs by 0.01"),  # a wrong cut
        ((1.0, 1.01, 1.02, 1.03), "differs by 0.01"),  # a wrong cut in the runtime's noise
        ((1.0, 1.01, 1.001, 1.001), "of which the runtime's own noise accounts for 0.000"),  # more than its noise
        ((1.0, 1.01, 1.0, 1.0), "of which the runtime's own noise accounts for 0"),  # the original has no noise
        ((1.0, np.nan, 1.0, np.nan), "no longer finite"),
        ((1.0, np.nan, 1.0, 1.0), "no longer finite"),
    ],
)
def test_only_the_runtimes_own_noise_is_excused(monkeypatch, script, reason):
    from contextlib import nullcontext

    values = dict(zip(((0, True), (1, True), (0, False), (1, False)), script, strict=True))
    monkeypatch.setattr(proof_module, "borrowed_runtime", lambda: nullcontext(Scripted(values)))
    found = prove(dense(), dense(scale=2.0), tolerance=1e-5)
    assert found.holds is (reason is None), found
    assert reason is None or reason in found.reason
    assert found.unfused is (found.holds and script[0] != script[1])


def wrong_cuts():
    """Results of a dense network in which one weight is not what it was, or a needed channel is gone."""
    original = dense()
    for share in (1e-3, 1e-4):
        damaged = dense()
        array = numpy_helper.to_array(damaged.graph.initializer[1]).copy()
        array[3, 1] *= 1 + share
        damaged.graph.initializer[1].CopyFrom(numpy_helper.from_array(array, "w1"))
        yield original, damaged
    damaged = dense()
    for tensor, axis in zip(damaged.graph.initializer, (1, 0), strict=True):
        array = np.delete(numpy_helper.to_array(tensor), 3, axis)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    yield original, damaged


def test_a_wrong_cut_is_not_proven():
    for original, damaged in wrong_cuts():
        assert not prove(original, damaged, tolerance=1e-5).holds


@pytest.mark.skipif(not FASTESTDET.is_file(), reason="needs ../shared/models")
def test_fusions_that_differ_from_themselves_hide_no_wrong_cut():
    result = rewrite(FASTESTDET)
    assert result.proven
    assert result.channels_removed == 4
    assert 1e-5 < result.runtime_rel_diff < 1e-3
    assert any("without the runtime's fusions" in note for note in result.notes)
    damaged = type(result.model)()
    damaged.CopyFrom(result.model)
    tensor = next(t for t in damaged.graph.initializer if len(t.dims) == 4 and t.dims[0] > 8)
    array = numpy_helper.to_array(tensor).copy()
    array[1] *= 1.001
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    with Judge(FileParts(read_model(FASTESTDET)), 1e-5) as judge:
        assert judge.prove(FileParts(result.model)).holds
        assert not judge.prove(FileParts(damaged)).holds
        assert judge.prove(FileParts(result.model)).holds


def floats(*shape):
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    ("shape", "given", "count", "largest"),
    [
        (("N", 4), (37, 4), 37, 16),
        ((1, 4), (5, 4), 5, 1),
        ((4, 4), (8, 4), 8, 4),
        ((1, 4), (5, 1, 4), 5, 1),
        (("N", 4), (3, 7, 4), 3, 7),
        (("N", 2, 4), (3, 2, 4), 3, 3),
    ],
)
def test_samples_are_fed_as_the_model_takes_them(shape, given, count, largest):
    from compress.rewrite.samples import samples_for

    array = floats(*given)
    samples = samples_for(dense(shape), {"x": array})
    assert samples.count == count
    assert max(len(feeds["x"]) for feeds in samples.runs) == largest
    rows = np.concatenate([feeds["x"].reshape(-1, *array.shape[1:]) for feeds in samples.runs])
    np.testing.assert_array_equal(rows, array)
    result = rewrite(dense(shape), inputs={"x": array})
    assert (result.proven, result.samples, result.channels_removed) == (True, count, 1)
    assert result.samples_abs_diff < 1e-5


def test_samples_are_read_from_a_file(tmp_path):
    np.savez(tmp_path / "data.npz", x=floats(5, 4))
    result = rewrite(dense(), inputs=tmp_path / "data.npz")
    assert (result.samples, result.proven) == (5, True)
    assert result.to_dict()["samples"] == 5


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({}, "no array 'x'"),
        ({"x": floats(5, 4), "z": floats(5, 4)}, "no input 'z'"),
        ({"x": floats(5, 3)}, "does not fit the model"),
        ({"x": floats(5)}, "does not fit the model"),
        ({"x": floats(5, 4, 1, 1)}, "does not fit the model"),
        ({"x": floats(0, 4)}, "is empty"),
        ({"x": floats(5, 4).astype(np.float64)}, r"convert it with \.astype"),
        ({"x": np.array([["a"] * 4])}, "wrong element type"),
    ],
)
def test_samples_that_do_not_fit_are_refused(arrays, reason):
    with pytest.raises(DataError, match=reason) as error:
        rewrite(dense(), inputs=arrays)
    assert len(str(error.value).splitlines()) == 1


def test_samples_that_do_not_divide_are_refused():
    with pytest.raises(DataError, match="cannot be cut into runs of 4"):
        rewrite(dense((4, 4)), inputs={"x": floats(6, 4)})


@pytest.mark.parametrize("content", ["pickle", "text", "cut", "missing"])
def test_files_of_samples_are_read_with_suspicion(tmp_path, content):
    path = tmp_path / "data.npz"
    if content == "pickle":
        np.savez(path, x=np.array([{"a": 1}], dtype=object))
    elif content == "text":
        path.write_text("no numbers")
    elif content == "cut":
        np.savez(path, x=floats(50, 4))
        path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match=r"cannot be read|do not exist") as error:
        rewrite(dense(), inputs=path)
    assert len(str(error.value).splitlines()) == 1


def test_a_difference_on_samples_alone_is_found():
    """The result is wrong only where an input is large, which nothing drawn is."""
    original, damaged = dense(), dense()
    node = damaged.graph.node.add()
    node.CopyFrom(helper.make_node("Clip", ["x", "low", "high"], ["c"]))
    damaged.graph.node[0].input[0] = "c"
    damaged.graph.node.insert(0, damaged.graph.node.pop())
    for name, value in (("low", -1e6), ("high", 1e6)):
        damaged.graph.initializer.append(numpy_helper.from_array(np.float32(value), name))
    assert prove(original, damaged, tolerance=1e-5).holds
    from compress.rewrite.samples import samples_for

    samples = samples_for(original, {"x": floats(3, 4) * np.float32(1e8)})
    assert "the samples of run 0" in prove(original, damaged, tolerance=1e-5, samples=samples).reason
