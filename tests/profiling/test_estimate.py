import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from compress.errors import CompressError, ModelFileError
from compress.profiling import profile
from compress.profiling.devices.estimate import CORES
from compress.recipe import ProfileSettings


def save(path, weight_type=np.float32, nodes=None):
    """A 1×1 convolution of 64 → 64 channels on 8×8 pixels, behind a dequantizer where the weight is of integers."""
    weight = numpy_helper.from_array(np.ones((64, 64, 1, 1), weight_type), "w")
    scale = numpy_helper.from_array(np.array(0.1, np.float32), "s")
    name = "w"
    made = []
    if weight_type != np.float32:
        made.append(helper.make_node("DequantizeLinear", ["w", "s"], ["d"], "dequantize"))
        name = "d"
    made += [helper.make_node("Conv", ["x", name], ["h"], "conv"), helper.make_node("Relu", ["h"], ["y"], "relu")]
    graph = helper.make_graph(
        nodes or made,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 64, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 64, 8, 8])],
        [weight, scale],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def estimate(path, core="cortex-a72", **others):
    return profile([path], ProfileSettings(device=f"estimate:{core}", **others))[0]


def test_bound_by_hand(tmp_path):
    report = estimate(save(tmp_path / "m.onnx"))
    macs = 64 * 64 * 64
    assert report.minimum == pytest.approx(2 * macs / 12.0e9 * 1e6)
    assert {row.node: row.cost for row in report.operators} == {
        "conv": pytest.approx(report.minimum, abs=1e-3),
        "relu": 0,
    }
    assert estimate(tmp_path / "m.onnx", batch_size=4).minimum == pytest.approx(4 * report.minimum)


def test_memory_bounds_what_computes_little(tmp_path):
    nodes = [helper.make_node("Sigmoid", ["x"], ["y"], "sigmoid")]
    report = estimate(save(tmp_path / "m.onnx", nodes=nodes), "cortex-a53")
    assert report.minimum == pytest.approx(2 * 64 * 64 * 4 / 3.6e9 * 1e6)


def test_integers_have_a_peak_of_their_own(tmp_path):
    floats = estimate(save(tmp_path / "f.onnx"), "cortex-a72").minimum
    integers = estimate(save(tmp_path / "i.onnx", np.int8), "cortex-a72").minimum
    assert integers == pytest.approx(floats / 2)


@pytest.mark.parametrize("core", CORES)
def test_it_is_labelled_a_bound_with_its_error(tmp_path, core):
    report = estimate(save(tmp_path / "m.onnx"), core)
    assert report.kind == "estimated"
    assert "a bound by arithmetic, not a measurement" in report.notes[0]
    assert "41%" in report.notes[0]


def test_two_bounds_conclude_nothing(tmp_path):
    models = [save(tmp_path / "f.onnx"), save(tmp_path / "i.onnx", np.int8)]
    _, other = profile(models, ProfileSettings(device="estimate:cortex-a76"))
    assert other.ratio.verdict == "a bound"
    assert other.ratio.low < other.ratio.ratio < other.ratio.high


@pytest.mark.parametrize(
    ("device", "settings", "expected"),
    [
        ("estimate:cortex-m4", {}, "no core 'cortex-m4' can be estimated; next: "),
        ("estimate", {"threads": 2}, "an estimate is of one thread; got 2"),
    ],
)
def test_what_cannot_be_estimated(tmp_path, device, settings, expected):
    with pytest.raises(CompressError, match=expected):
        profile([save(tmp_path / "m.onnx")], ProfileSettings(device=device, **settings))


def test_files_that_cannot_be_estimated(tmp_path):
    nodes = [helper.make_node("Relu", ["x"], ["y"], "relu")]
    with pytest.raises(ModelFileError, match="nothing in it can be counted"):
        estimate(save(tmp_path / "m.onnx", nodes=nodes))
    (tmp_path / "m.ort").write_bytes(b"x")
    with pytest.raises(ModelFileError, match="it is no ONNX file"):
        estimate(tmp_path / "m.ort")
