"""Models whose weights lie in files beside them, small ones and ones that are treated as too large for one message."""

import tempfile

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from compress.errors import ModelFileError
from compress.onnx_io import file as onnx_file
from compress.onnx_io import runtime as runtime_module
from compress.onnx_io.file import read_model, total_bytes
from compress.onnx_io.session import session
from compress.quantize import quantize
from compress.recipe import QuantizeSettings
from compress.rewrite import rewrite, rewrite_file
from compress.rewrite import sources as sources_module

WIDTH = 64


def weights(folder):
    generator = np.random.default_rng(0)
    first, second = (generator.standard_normal((WIDTH, WIDTH)).astype(np.float32) / 8 for _ in range(2))
    first[:, ::2] = 0
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "w.bin").write_bytes(b"\0" * 64 + first.tobytes() + second.tobytes())


def chain(path, location="w.bin", shared=False):
    """Writes a chain of three matrix products; the last two read one place if `shared`."""
    size = WIDTH * WIDTH * 4
    places = {"w0": 64, "w1": 64 + size, "w2": 64 + size} if shared else {"w0": 64, "w1": 64 + size}
    names = ["x", *(f"h{index}" for index in range(len(places) - 1)), "y"]
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("MatMul", [a, w], [b]) for w, a, b in zip(places, names, names[1:], strict=False)],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", WIDTH])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", WIDTH])],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    for name, start in places.items():
        tensor = model.graph.initializer.add(name=name, data_type=TensorProto.FLOAT, dims=[WIDTH, WIDTH])
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", start), ("length", size)):
            tensor.external_data.add(key=key, value=str(value))
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def large(monkeypatch):
    """Every model is too large for one message, and for a pipe."""
    monkeypatch.setattr(onnx_file, "_MESSAGE_LIMIT_BYTES", 5000)
    monkeypatch.setattr(sources_module, "_PIPED_BYTES", 1000)


def check_result(source, target, result):
    assert result.proven
    assert result.channels_removed == WIDTH // 2
    feeds = {"x": np.random.default_rng(1).standard_normal((3, WIDTH)).astype(np.float32)}
    (before,), (after,) = (session(path).run(None, feeds) for path in (source, target))
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-5)
    assert read_model(target).graph == result.model.graph


@pytest.mark.parametrize("location", ["w.bin", "inner/w.bin", "./inner/../inner/w.bin"])
def test_a_small_model_leaves_its_external_data_behind(tmp_path, location):
    weights((tmp_path / location).parent)
    source, target = chain(tmp_path / "m.onnx", location), tmp_path / "new" / "m.onnx"
    check_result(source, target, rewrite_file(source, target))
    assert [file.name for file in target.parent.iterdir()] == ["m.onnx"]
    assert total_bytes(target) < total_bytes(source)


@pytest.mark.parametrize("written", [rewrite_file, lambda *files: quantize(*files, QuantizeSettings(), [])])
@pytest.mark.parametrize(("target", "lost"), [("w.bin", "w.bin"), ("alias", "w.bin"), ("new", "new.data")])
def test_the_data_that_a_model_reads_is_never_written_over(tmp_path, written, target, lost):
    weights(tmp_path)
    if lost != "w.bin":
        (tmp_path / "w.bin").rename(tmp_path / lost)
    source = chain(tmp_path / "m.onnx", lost)
    (tmp_path / "alias").symlink_to("w.bin")
    before = (tmp_path / lost).read_bytes()
    with pytest.raises(ModelFileError, match="it is the file that is read, and would be lost; next: write to another"):
        written(source, tmp_path / target)
    assert (tmp_path / lost).read_bytes() == before


@pytest.mark.usefixtures("large")
def test_a_large_model_is_proven_and_written_with_its_data_beside_it(tmp_path, monkeypatch):
    opened = []
    original = runtime_module.Runtime.open
    monkeypatch.setattr(
        runtime_module.Runtime,
        "open",
        lambda self, model, **more: (opened.append(model), original(self, model, **more))[1],
    )
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    weights(tmp_path)
    source, target = chain(tmp_path / "m.onnx"), tmp_path / "new" / "m.onnx"
    check_result(source, target, rewrite_file(source, target))
    assert sorted(file.name for file in target.parent.iterdir()) == ["m.onnx", "m.onnx.data"]
    assert opened[0] == source  # it is not written a second time
    assert all(not isinstance(model, bytes) for model in opened)
    assert not list(scratch.iterdir())


@pytest.mark.usefixtures("large")
def test_a_large_model_in_memory_is_proven_from_a_file(tmp_path):
    weights(tmp_path)
    model = onnx.load(chain(tmp_path / "m.onnx"))
    before = model.SerializeToString()
    result = rewrite(model)
    assert (result.proven, result.channels_removed) == (True, WIDTH // 2)
    assert len(before) - 20 < result.file_bytes_before <= len(before)
    assert model.SerializeToString() == before


@pytest.mark.usefixtures("large")
def test_a_large_file_is_written_over_an_older_one_and_never_over_its_original(tmp_path):
    weights(tmp_path)
    source, target = chain(tmp_path / "m.onnx"), tmp_path / "new.onnx"
    for _ in range(2):
        check_result(source, target, rewrite_file(source, target))
    before = source.read_bytes()
    with pytest.raises(ModelFileError, match="it is the file that is read"):
        rewrite_file(source, source)
    assert source.read_bytes() == before


def test_weights_at_one_place_may_be_cut_apart(tmp_path):
    weights(tmp_path)
    source, target = chain(tmp_path / "m.onnx", shared=True), tmp_path / "new.onnx"
    check_result(source, target, rewrite_file(source, target))
    assert {tuple(tensor.dims) for tensor in read_model(target).graph.initializer} == {
        (WIDTH, WIDTH // 2),
        (WIDTH // 2, WIDTH),
        (WIDTH, WIDTH),
    }


@pytest.mark.parametrize("damage", ["gone", "cut", "folder"])
def test_damaged_external_data_is_refused_before_anything_is_written(tmp_path, damage):
    weights(tmp_path)
    source, target = chain(tmp_path / "m.onnx"), tmp_path / "new" / "m.onnx"
    data = tmp_path / "w.bin"
    if damage == "cut":
        data.write_bytes(data.read_bytes()[:-1])
    else:
        data.unlink()
    if damage == "folder":
        data.mkdir()
    with pytest.raises(ModelFileError) as error:
        rewrite_file(source, target)
    assert len(str(error.value).splitlines()) == 1
    assert not target.parent.exists()
