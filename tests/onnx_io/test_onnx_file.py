import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from compress.errors import CompressError, MachineError, ModelFileError
from compress.onnx_io import file as onnx_file
from compress.onnx_io.file import input_shapes, random_inputs, read_model, session, total_bytes, write_model
from compress.onnx_io.metadata import strip_metadata


def small_model(ir_version=10, opset=18, elements=512, shape=("N", 512)):
    weight = numpy_helper.from_array(np.arange(elements, dtype=np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"], name="add")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [weight],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


def model_with_inputs(*values):
    node = helper.make_node("Constant", [], ["y"], value=numpy_helper.from_array(np.zeros(1, np.float32)))
    graph = helper.make_graph([node], "g", list(values), [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def save_external(folder: Path, location="w.bin", offset=0, length=2048, data_bytes=2048, outside=False) -> Path:
    model = small_model()
    tensor = model.graph.initializer[0]
    raw = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))
    folder.mkdir(exist_ok=True, parents=True)
    if data_bytes:
        (folder / "w.bin").write_bytes(raw[:data_bytes])
    path = folder / "m.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def one_line(error: pytest.ExceptionInfo[CompressError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert "next: " in text
    assert "Traceback" not in text
    return text


def zip_bytes(*names):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return buffer.getvalue()


def test_what_is_written_is_read_back(tmp_path):
    path = tmp_path / "new" / "m.onnx"
    write_model(small_model(), path)
    assert read_model(path) == small_model()


def test_equal_models_give_equal_bytes(tmp_path):
    for name in ("a", "b"):
        write_model(small_model(), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_writing_to_an_impossible_place_is_a_machine_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError) as error:
        write_model(small_model(), tmp_path / "file" / "m.onnx")
    one_line(error)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is empty"),
        (b"abcdef" * 20, "cut short"),
        (b"\x08\x07", "holds no graph"),
        (bytes(1000), "cut short"),
        (small_model().SerializeToString()[:-9], "cut short"),
        (small_model().SerializeToString()[:30], "cut short"),
        (b"\x1c\x00\x00\x00TFL3" + bytes(50), "TensorFlow Lite"),
        (b"\x1c\x00\x00\x00ORTM" + bytes(50), ".ort model"),
        (b"\x89HDF\r\n\x1a\n" + bytes(50), "Keras HDF5"),
        (b"\x80\x02}q\x00" + bytes(50), "pickle"),
        (zip_bytes("archive/data.pkl", "archive/data/0"), "PyTorch file"),
        (zip_bytes("config.json", "model.weights.h5"), "Keras file"),
        (zip_bytes("x.npy"), ".npz"),
        (zip_bytes("a.txt"), "zip archive"),
        (b"PK\x03\x04" + bytes(50), "zip archive"),
        ((9).to_bytes(8, "little") + b'{"a":1}  ' + bytes(50), "safetensors"),
        (b'{"a": 1}', "JSON"),
        (b"<!DOCTYPE html><html></html>", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
        (b"\x1f\x8b" + bytes(50), "gzip"),
    ],
)
def test_a_file_of_another_kind_is_named(tmp_path, content, expected):
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=expected) as error:
        read_model(path)
    assert str(path) in one_line(error)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(ModelFileError, match="does not exist") as error:
        read_model(tmp_path / "no.onnx")
    one_line(error)
    with pytest.raises(ModelFileError, match="is a folder") as error:
        read_model(tmp_path)
    one_line(error)


def test_a_file_beyond_the_limit_is_refused_unread(tmp_path):
    path = tmp_path / "m.onnx"
    with path.open("wb") as file:
        file.truncate(2**31)  # sparse: takes no disk
    with pytest.raises(ModelFileError, match="larger than one ONNX file can be") as error:
        read_model(path)
    one_line(error)


def test_every_truncation_is_one_clear_line(tmp_path):
    data = small_model(elements=8, shape=("N", 8)).SerializeToString()
    path = tmp_path / "m.onnx"
    for end in range(1, len(data)):
        path.write_bytes(data[:end])
        # A cut just before the opset list leaves a whole message: the checker sees that.
        with pytest.raises(ModelFileError) as error:
            read_model(path)
        one_line(error)


@pytest.mark.parametrize(
    ("dims", "raw"), [((10**12,), b""), ((8,), b"1234"), ((-1,), b"1234"), ((2**62, 2**62), b"1234")]
)
def test_a_tensor_that_lies_about_its_size_is_refused(tmp_path, dims, raw):
    model = small_model()
    tensor = model.graph.initializer[0]
    del tensor.dims[:]
    tensor.dims.extend(dims)
    tensor.raw_data = raw
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match=r"asks for|no possible type and shape") as error:
        read_model(tmp_path / "m.onnx")
    one_line(error)


def test_an_unknown_operator_is_named(tmp_path):
    model = small_model()
    model.graph.node[0].op_type = "Frobnicate"
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match="No Op registered for Frobnicate") as error:
        read_model(tmp_path / "m.onnx")
    one_line(error)


def test_external_data_is_read_into_the_model(tmp_path):
    assert read_model(save_external(tmp_path)).graph == small_model().graph


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"data_bytes": 0}, "which is missing"),
        ({"data_bytes": 100}, "do not belong together"),
        ({"offset": 8}, "do not belong together"),
        ({"offset": -8}, "do not belong together"),
        ({"length": 10**15}, "do not belong together"),
        ({"length": 1024}, "do not belong together"),
        ({"offset": "zero"}, "malformed"),
        ({"location": "../w.bin"}, "outside the model's folder"),
        ({"location": "/etc/hostname"}, "outside the model's folder"),
        ({"location": ""}, "outside the model's folder"),
        ({"location": "a\0b"}, "outside the model's folder"),
        ({"location": "x" * 5000}, "outside the model's folder"),
        ({"location": "../no/such/file"}, "outside the model's folder"),
    ],
)
def test_wrong_external_data_is_refused(tmp_path, arguments, expected):
    (tmp_path / "w.bin").write_bytes(bytes(2048))
    path = save_external(tmp_path / "inner", **arguments)
    with pytest.raises(ModelFileError, match=expected) as error:
        read_model(path)
    one_line(error)


def test_a_link_out_of_the_folder_is_refused(tmp_path):
    (tmp_path / "secret").write_bytes(bytes(2048))
    path = save_external(tmp_path / "inner", data_bytes=0)
    (tmp_path / "inner" / "w.bin").symlink_to(tmp_path / "secret")
    with pytest.raises(ModelFileError, match="outside the model's folder"):
        read_model(path)


def test_external_data_claiming_more_than_memory_is_refused_unread(tmp_path):
    path = save_external(tmp_path, length=2**40)
    os.truncate(tmp_path / "w.bin", 2**40)  # sparse: takes no disk
    with pytest.raises(ModelFileError, match="do not belong together"):
        read_model(path)


def test_weights_beyond_the_limit_go_beside_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_file, "_MESSAGE_LIMIT_BYTES", 1500)
    model = small_model()
    path = tmp_path / "m.onnx"
    write_model(model, path)
    assert model == small_model()
    assert path.stat().st_size < 1000
    assert (tmp_path / "m.onnx.data").stat().st_size == 2048
    assert total_bytes(path) == path.stat().st_size + 2048
    # The checker then looks at the path, for it cannot take the bytes.
    assert read_model(path).graph == model.graph


def test_stripping_leaves_what_runs():
    model = small_model()
    bare = model.SerializeToString()
    model.producer_name = "maker"
    model.graph.value_info.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, ("N", 512)))
    carriers = (model, model.graph, model.graph.node[0], model.graph.input[0], model.graph.initializer[0])
    for carrier in carriers:
        carrier.doc_string = "words"
        carrier.metadata_props.add(key="k", value="v")
    branch = helper.make_graph([helper.make_node("Relu", ["x"], ["z"], doc_string="words")], "b", [], [])
    branch.doc_string = "words"
    model.graph.node[0].attribute.append(helper.make_attribute("body", branch, doc_string="words"))
    held = model.SerializeToString()
    stripped = strip_metadata(model)
    assert model.SerializeToString() == held
    assert stripped.producer_name == "maker"
    assert b"words" not in stripped.SerializeToString()
    # What the model says of itself is for applications, not for people reading the file.
    assert [(entry.key, entry.value) for entry in stripped.metadata_props] == [("k", "v")]
    stripped.ClearField("producer_name")
    del stripped.metadata_props[:]
    del stripped.graph.node[0].attribute[:]
    assert stripped.SerializeToString() == bare


def test_a_session_runs_from_bytes_and_from_a_path(tmp_path):
    model = small_model()
    write_model(model, tmp_path / "m.onnx")
    feed = random_inputs(model, 0)
    for source in (model.SerializeToString(), tmp_path / "m.onnx"):
        (result,) = session(source).run(None, feed)
        np.testing.assert_array_equal(result, feed["x"] + np.arange(512, dtype=np.float32))


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (small_model(ir_version=99), r"IR version 99, onnxruntime \S+ takes at most \d+.*ir_version = "),
        (small_model(opset=90), r"opset 90 of ai.onnx, onnxruntime \S+ takes at most \d+"),
        (small_model(elements=7), "Incompatible dimensions"),
    ],
)
def test_a_refused_session_says_why(tmp_path, model, expected):
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    for source in (tmp_path / "m.onnx", model.SerializeToString()):
        with pytest.raises(ModelFileError, match=expected) as error:
            session(source)
        assert "onnxruntime_src" not in one_line(error)


def test_free_axes_become_numbers():
    model = model_with_inputs(
        helper.make_tensor_value_info("a", TensorProto.FLOAT, ["N", 3, "H", "W"]),
        helper.make_tensor_value_info("b", TensorProto.INT64, [2, "N", None]),
        helper.make_tensor_value_info("c", TensorProto.FLOAT16, [4, -1]),
        helper.make_tensor_value_info("d", TensorProto.BOOL, []),
    )
    specs = input_shapes(model, batch_size=5, sizes={"H": 8})
    assert [spec.shape for spec in specs.values()] == [(5, 3, 8, 64), (2, 5, 64), (4, 64), ()]
    assert [spec.dtype for spec in specs.values()] == [np.float32, np.int64, np.float16, np.bool_]
    assert input_shapes(model, sizes={"N": 7}, default=9)["a"].shape == (7, 3, 9, 9)


def test_initializers_listed_as_inputs_are_not_fed():
    model = small_model()
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [512]))
    assert list(input_shapes(model)) == ["x"]


@pytest.mark.parametrize(
    "value",
    [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, None),
        helper.make_tensor_value_info("x", TensorProto.STRING, [1]),
        helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, [1]),
    ],
)
def test_an_input_that_cannot_be_fed_is_named(value):
    with pytest.raises(ModelFileError, match="input 'x' cannot be fed") as error:
        input_shapes(model_with_inputs(value))
    one_line(error)


def test_random_inputs_have_the_types_and_are_seeded():
    kinds = {
        "f": TensorProto.FLOAT,
        "h": TensorProto.FLOAT16,
        "u": TensorProto.UINT8,
        "s": TensorProto.INT8,
        "i": TensorProto.INT64,
        "b": TensorProto.BOOL,
    }
    model = model_with_inputs(*(helper.make_tensor_value_info(n, k, ["N", 300]) for n, k in kinds.items()))
    arrays = random_inputs(model, 3, batch_size=2)
    for name, spec in input_shapes(model, 2).items():
        assert (arrays[name].dtype, arrays[name].shape) == spec
        assert arrays[name].any() == (name != "i")
    assert abs(arrays["f"].std() - 1) < 0.1
    assert arrays["u"].max() > 200
    assert arrays["s"].min() < -100
    again, other = random_inputs(model, 3, batch_size=2), random_inputs(model, 4, batch_size=2)
    for name in kinds:
        np.testing.assert_array_equal(arrays[name], again[name])
    assert not np.array_equal(arrays["f"], other["f"])


def test_checker_refusal_does_not_depend_on_onnx_printing(tmp_path, capfd):
    model = small_model()
    del model.opset_import[:]
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match="opset_import"):
        read_model(tmp_path / "m.onnx")
    assert capfd.readouterr() == ("", "")
