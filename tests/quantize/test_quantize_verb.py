import dataclasses
import hashlib
import json
import logging
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compress.errors import CompressError, DataError, ModelFileError, RecipeError
from compress.onnx_io.file import random_inputs, read_model, session
from compress.options import build
from compress.quantize import list_formats, onnx_accuracy, quantize
from compress.quantize.format import formats
from compress.recipe import QuantizeSettings

INT8 = QuantizeSettings(format="int8", samples=32)
SHARED = Path(__file__).resolve().parents[2].parent / "shared"


def convolutional(
    path: Path, batch="N", opset=18, ir_version=10, weights_are_inputs=False, kind=np.float32, inputs=1
) -> Path:
    """Conv → BatchNormalization → Relu → Conv → Relu → GlobalAveragePool → Flatten → Gemm, 5 classes."""
    rng = np.random.default_rng(0)
    arrays = {
        "w1": rng.normal(0, 0.3, (16, 3, 3, 3)),
        "gamma": rng.uniform(0.5, 2, 16),
        "beta": rng.normal(0, 0.5, 16),
        "mean": rng.normal(0, 0.5, 16),
        "var": rng.uniform(0.5, 2, 16),
        "w2": rng.normal(0, 0.1, (32, 16, 3, 3)),
        "b2": rng.normal(0, 0.1, 32),
        "w3": rng.normal(0, 0.3, (5, 32)),
        "b3": rng.normal(0, 0.1, 5),
    }
    element = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"], name="conv1", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c1", "gamma", "beta", "mean", "var"], ["n1"], name="norm1"),
        helper.make_node("Relu", ["n1"], ["r1"], name="relu1"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], name="conv2"),
        helper.make_node("Relu", ["c2"], ["r2"], name="relu2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["y"], name="classify", transB=1),
    ]
    values = [helper.make_tensor_value_info("x", element, [batch, 3, 8, 8])]
    values += [helper.make_tensor_value_info(f"extra{i}", element, [1]) for i in range(1, inputs)]
    if weights_are_inputs:
        values += [helper.make_tensor_value_info(name, element, array.shape) for name, array in arrays.items()]
    graph = helper.make_graph(
        nodes,
        "g",
        values,
        [helper.make_tensor_value_info("y", element, [batch, 5])],
        [numpy_helper.from_array(array.astype(kind), name) for name, array in arrays.items()],
        doc_string="words for people",
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)
    path.write_bytes(model.SerializeToString())
    return path


def images(count=32, batch=8, seed=0, shape=(3, 8, 8)):
    rng = np.random.default_rng(seed)
    for _ in range(0, count, batch):
        yield rng.standard_normal((batch, *shape)).astype(np.float32)


def one_line(error) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert "next: " in text
    return text


@pytest.fixture(scope="module")
def quantized(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quantized")
    source = convolutional(folder / "m.onnx")
    held = source.read_bytes()
    result = quantize(source, folder / "q.onnx", INT8, images())
    assert source.read_bytes() == held
    return source, folder / "q.onnx", result


def test_weights_are_int8_with_a_scale_a_channel(quantized):
    model = read_model(quantized[1])
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    made = {node.output[0]: node for node in model.graph.node}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 2
    for node, channels in zip(convolutions, (16, 32), strict=True):
        weight, scale, zero = (arrays[name] for name in made[node.input[1]].input)
        assert weight.dtype == np.int8
        assert scale.shape == (channels,)
        assert not zero.any()
        assert abs(weight).max() == 127
        activation = arrays[made[node.input[0]].input[2]]
        assert activation.dtype == np.uint8
        assert activation.shape == ()


def test_normalization_is_folded_and_everything_is_quantized(quantized):
    _, target, result = quantized
    assert "BatchNormalization" not in {node.op_type for node in read_model(target).graph.node}
    assert result.contractions_float == ()
    assert result.operators_quantized["Conv"] == 2
    assert result.operators_quantized["Gemm"] == 1


def test_outputs_stay_close(quantized):
    source, target, _ = quantized
    feed = {"x": np.concatenate(list(images(seed=1)))}
    (exact,), (rounded,) = session(source).run(None, feed), session(target).run(None, feed)
    assert np.abs(exact - rounded).max() < 0.05 * np.abs(exact).max()
    assert np.abs(exact - rounded).max() > 0


def test_sizes_are_those_of_the_files(quantized):
    source, target, result = quantized
    assert (result.file_bytes_before, result.file_bytes_after) == (source.stat().st_size, target.stat().st_size)
    assert result.file_bytes_after < result.file_bytes_before
    assert result.seconds > 0


def test_the_file_keeps_its_versions_and_loses_metadata(quantized):
    model = read_model(quantized[1])
    assert model.ir_version == 10
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
    assert not model.graph.value_info
    assert not model.metadata_props


def test_the_library_is_quiet_and_logging_is_restored(tmp_path, capfd, caplog):
    quantize(convolutional(tmp_path / "m.onnx", weights_are_inputs=True), tmp_path / "q.onnx", INT8, images())
    assert capfd.readouterr() == ("", "")
    logging.getLogger().warning("heard")
    assert [record.message for record in caplog.records] == ["heard"]


def test_the_runtime_is_quiet_about_shapes_that_a_file_promises_wrongly(tmp_path, capfd):
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, "H", "W"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4, 640, 640])],
        [numpy_helper.from_array(np.ones((4, 3, 1, 1), np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    quantize(tmp_path / "m.onnx", tmp_path / "q.onnx", INT8, images())
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("arguments", [{"opset": 11, "ir_version": 6}, {"opset": 9, "ir_version": 3}])
def test_old_files_are_raised_to_what_int8_needs(tmp_path, arguments):
    source = convolutional(tmp_path / "m.onnx", weights_are_inputs=True, **arguments)
    result = quantize(source, tmp_path / "q.onnx", INT8, images())
    model = read_model(tmp_path / "q.onnx")
    assert model.opset_import[0].version == 13
    assert [value.name for value in model.graph.input] == ["x"]
    assert result.contractions_float == ()
    feed = next(images(seed=1))
    (exact,), (rounded,) = (session(p).run(None, {"x": feed}) for p in (source, tmp_path / "q.onnx"))
    assert np.abs(exact - rounded).max() < 0.05 * np.abs(exact).max()


def test_a_fixed_batch_is_fed_in_its_size(tmp_path):
    source = convolutional(tmp_path / "m.onnx", batch=1)
    assert quantize(source, tmp_path / "q.onnx", INT8, images()).contractions_float == ()
    free = convolutional(tmp_path / "free.onnx")
    quantize(free, tmp_path / "qf.onnx", INT8, images())
    scales = [
        {t.name: numpy_helper.to_array(t) for t in read_model(tmp_path / name).graph.initializer if "scale" in t.name}
        for name in ("q.onnx", "qf.onnx")
    ]
    for name, scale in scales[0].items():
        np.testing.assert_array_equal(scale, scales[1][name])


def test_no_more_images_are_fetched_than_asked_for(tmp_path):
    def counted():
        for batch in images(count=1000):
            fetched.append(len(batch))
            yield batch

    fetched: list[int] = []
    source = convolutional(tmp_path / "m.onnx")
    quantize(source, tmp_path / "q.onnx", INT8.model_copy(update={"samples": 20}), counted())
    assert fetched == [8, 8, 8]
    quantize(source, tmp_path / "r.onnx", INT8, [np.concatenate(list(images()))[:20]])
    assert (tmp_path / "q.onnx").read_bytes() == (tmp_path / "r.onnx").read_bytes()


def test_none_writes_the_model_as_it_is(tmp_path):
    source = convolutional(tmp_path / "m.onnx", kind=np.float16)
    result = quantize(source, tmp_path / "q.onnx", QuantizeSettings(format="none"))
    assert read_model(tmp_path / "q.onnx") == read_model(source)
    assert result.operators_quantized == {}
    assert result.contractions_float == ("conv1", "conv2", "classify")


def test_a_quantized_model_is_refused(quantized, tmp_path):
    with pytest.raises(ModelFileError, match=r"quantized already, at (De)?[Qq]uantizeLinear") as error:
        quantize(quantized[1], tmp_path / "q.onnx", INT8, images())
    assert str(quantized[1]) in one_line(error)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"kind": np.float16}, "is float16"),
        ({"kind": np.float64}, "is float64"),
        ({"inputs": 2}, "one input; got .*extra1"),
    ],
)
def test_a_model_of_another_kind_is_refused(tmp_path, arguments, expected):
    source = convolutional(tmp_path / "m.onnx", **arguments)
    with pytest.raises(ModelFileError, match=expected) as error:
        quantize(source, tmp_path / "q.onnx", INT8, images())
    assert str(source) in one_line(error)
    assert not (tmp_path / "q.onnx").exists()


@pytest.mark.parametrize(
    ("arguments", "batches", "expected"),
    [
        ({}, [], "no calibration images; "),
        ({}, [np.zeros((0, 3, 8, 8), np.float32)], "no calibration images; "),
        ({"batch": 64}, [np.zeros((40, 3, 8, 8), np.float32)], "no calibration images that fill a batch of 64"),
        ({}, [np.zeros((4, 3, 9, 8), np.float32)], r"got float32 \[4, 3, 9, 8\]; allowed: float32 \['N', 3, 8, 8\]"),
        ({}, [np.zeros((3, 8, 8), np.float32)], r"got float32 \[3, 8, 8\]"),
        ({}, [np.zeros((4, 3, 8, 8), np.uint8)], r"got uint8"),
        ({}, [np.full((4, 3, 8, 8), np.nan, np.float32)], "NaN or infinity"),
    ],
)
def test_calibration_that_does_not_fit_is_refused(tmp_path, arguments, batches, expected):
    with pytest.raises(DataError, match=expected) as error:
        quantize(convolutional(tmp_path / "m.onnx", **arguments), tmp_path / "q.onnx", INT8, batches)
    one_line(error)
    assert not (tmp_path / "q.onnx").exists()


def test_an_unknown_format_lists_the_known(tmp_path):
    settings = INT8.model_copy(update={"format": "int7"})
    with pytest.raises(CompressError, match=r"unknown format 'int7'.*int8.*none"):
        quantize(convolutional(tmp_path / "m.onnx"), tmp_path / "q.onnx", settings, images())


def test_a_missing_source_is_named(tmp_path):
    with pytest.raises(ModelFileError, match="does not exist"):
        quantize(tmp_path / "no.onnx", tmp_path / "q.onnx", INT8, images())


@pytest.mark.parametrize("name", formats.names())
def test_every_format_keeps_the_contract(tmp_path, name):
    chosen = build(formats, name, {})
    assert chosen.__dataclass_params__.frozen
    info = next(info for info in list_formats() if info.id == name)
    assert info.kind == "format"
    assert info.summary.endswith(".")
    assert info.source
    assert [knob.name for knob in info.knobs] == [field.name for field in dataclasses.fields(chosen)]
    assert all(knob.description for knob in info.knobs)
    with pytest.raises(RecipeError, match="has no option 'nonsense'"):
        build(formats, name, {"nonsense": 1})
    model = read_model(convolutional(tmp_path / "m.onnx"))
    held = model.SerializeToString()
    converted = [chosen.convert(model, images()) for _ in range(2)]
    json.dumps(converted[0].details, allow_nan=False)
    assert converted[0].details == converted[1].details
    first, second = (one.model.SerializeToString(deterministic=True) for one in converted)
    assert model.SerializeToString() == held
    assert hashlib.sha256(first).digest() == hashlib.sha256(second).digest()
    onnx.checker.check_model(first, full_check=True)
    (result,) = session(first).run(None, random_inputs(model, 0, batch_size=4))
    assert result.shape == (4, 5)
    assert np.isfinite(result).all()


class Listed:
    """Images and labels in memory."""

    def __init__(self, images, labels):
        self.images, self.labels = images, labels

    def batches(self, batch_size):
        for start in range(0, len(self.labels), batch_size):
            yield self.images[start : start + batch_size], self.labels[start : start + batch_size]


def scores_are_pixels(path: Path, batch, elem_type=TensorProto.FLOAT, classes=4) -> Path:
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", elem_type, [batch, 1, 1, classes])],
        [helper.make_tensor_value_info("y", elem_type, [batch, classes])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("batch", ["N", 1, 4])
def test_accuracy_by_hand(tmp_path, batch):
    pixels = np.eye(4, dtype=np.float32)[np.arange(10) % 4].reshape(10, 1, 1, 4)
    labels = np.arange(10) % 4
    labels[[0, 9]] += 1
    assert onnx_accuracy(scores_are_pixels(tmp_path / "m.onnx", batch), Listed(pixels, labels), 3) == 80.0


@pytest.mark.parametrize(
    ("model", "shape", "label", "expected"),
    [
        ({}, (2, 1, 1, 5), 0, "does not take images of shape"),
        ({}, (2, 1, 1, 4), 4, "at least 5 classes"),
        ({"elem_type": TensorProto.UINT8}, (2, 1, 1, 4), 0, "no image classifier"),
    ],
)
def test_accuracy_of_what_does_not_fit_is_refused(tmp_path, model, shape, label, expected):
    path = scores_are_pixels(tmp_path / "m.onnx", "N", **model)
    with pytest.raises(ModelFileError, match=expected) as error:
        onnx_accuracy(path, Listed(np.zeros(shape, np.float32), np.full(2, label)))
    one_line(error)


def test_accuracy_of_nothing_is_refused(tmp_path):
    with pytest.raises(DataError, match="no images"):
        onnx_accuracy(scores_are_pixels(tmp_path / "m.onnx", "N"), Listed(np.zeros((0, 1, 1, 4)), np.zeros(0)))


def test_a_published_network_keeps_its_accuracy(tmp_path):
    source = SHARED / "models" / "EXPORTED_akamaster_resnet20_cifar10.onnx"
    data = Path(os.environ.get("COMPRESS_DATA", "absent")) / "cifar-10"
    if not source.is_file() or not data.is_dir():
        pytest.skip("needs ../shared/models and CIFAR-10 in $COMPRESS_DATA")
    mean, std = (np.array(v, np.float32)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))

    def read(name, count):
        rows = np.fromfile(data / name, np.uint8, count * 3073).reshape(count, 3073)
        return (rows[:, 1:].reshape(-1, 3, 32, 32).astype(np.float32) / 255 - mean) / std, rows[:, 0].astype(np.int64)

    quantize(source, tmp_path / "q.onnx", QuantizeSettings(), [read("data_batch_1.bin", 256)[0]])
    test = Listed(*read("test_batch.bin", 1000))
    before, after = onnx_accuracy(source, test), onnx_accuracy(tmp_path / "q.onnx", test)
    assert before > 90
    assert after > before - 1
