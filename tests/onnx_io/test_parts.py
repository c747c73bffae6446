"""Reading a file with its large weights apart says exactly what parsing it whole says, whatever state it is in."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

from compress.errors import ModelFileError
from compress.onnx_io.file import read_apart, read_model
from compress.onnx_io.parts import without_raw_data
from compress.onnx_io.tensors import contents
from compress.onnx_io.weights import SMALL_ELEMENTS, put_apart, take_apart
from compress.onnx_io.wire import key_of, prefix

LARGE = SMALL_ELEMENTS + 8


def model() -> ModelProto:
    """y = (x + w) · v + c with large initializers w and v, a small c and a large Constant."""
    weights = [numpy_helper.from_array(np.arange(LARGE, dtype=dtype), name) for name, dtype in KINDS.items()]
    small = numpy_helper.from_array(np.float32(3), "c")
    constant = numpy_helper.from_array(np.ones(LARGE, np.float32))
    nodes = [
        helper.make_node("Constant", [], ["k"], value=constant),
        helper.make_node("Add", ["x", "w"], ["a"]),
        helper.make_node("Mul", ["a", "v"], ["b"]),
        helper.make_node("Sum", ["b", "c", "k"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (LARGE,)) for name in "xy"]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], [weights[0], small, *weights[1:]])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, doc_string="it")


KINDS = {"w": np.float32, "v": np.float32, "unread": np.float16}


def parsed(data: bytes) -> bytes | None:
    """Returns what the parser makes of a file, in one way of writing it; None if it is no model."""
    found = ModelProto()
    try:
        found.ParseFromString(data)
    except DecodeError:
        return None
    return bytes(found.SerializeToString(deterministic=True))


def read(data: bytes) -> tuple[bytes | None, int]:
    """Reads with weights apart and puts them back; returns the same, and how many lay apart."""
    rest, raw = without_raw_data(io.BytesIO(data), len(data))
    found = ModelProto()
    try:
        found.ParseFromString(rest)
    except DecodeError:
        return None, 0
    apart = put_apart(contents(found), raw)
    for index, values in apart.items():
        assert values.flags.aligned
        assert not values.flags.writeable
        found.graph.initializer[index].raw_data = values.tobytes()
    return bytes(found.SerializeToString(deterministic=True)), len(apart)


def structure(data: bytes) -> list[int]:
    """Returns the places of a file that are not data of its tensors."""
    inside = set()
    for dtype in KINDS.values():
        numbers = np.arange(LARGE, dtype=dtype).tobytes()
        start = data.find(numbers)
        while start >= 0:
            inside.update(range(start, start + len(numbers)))
            start = data.find(numbers, start + 1)
    return [place for place in range(len(data)) if place not in inside]


FILE = model().SerializeToString()
STRUCTURE = structure(FILE)


def test_large_initializers_lie_apart_and_nothing_is_lost() -> None:
    rest, raw = without_raw_data(io.BytesIO(FILE), len(FILE))
    assert [(index, data.size) for index, data in raw.items()] == [(0, 4 * LARGE), (2, 4 * LARGE), (3, 2 * LARGE)]
    assert len(rest) < len(FILE) - 10 * LARGE
    assert read(FILE) == (FILE, 3)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(st.sampled_from(STRUCTURE), st.integers(0, 255)), max_size=3), st.sampled_from(STRUCTURE))
def test_a_damaged_file_says_what_it_says_as_a_whole(changes: list[tuple[int, int]], end: int) -> None:
    damaged = bytearray(FILE)
    for place, byte in changes:
        damaged[place] = byte
    for data in (bytes(damaged), bytes(damaged[:end])):
        assert read(data)[0] == parsed(data)


@given(st.binary(max_size=200))
def test_any_bytes_say_what_they_say_as_a_whole(data: bytes) -> None:
    assert read(data)[0] == parsed(data)


def test_a_graph_in_two_pieces_is_one() -> None:
    assert read(FILE + FILE) == (parsed(FILE + FILE), 0)


def _two_of_one_name(whole: ModelProto) -> None:
    for tensor in whole.graph.initializer:
        tensor.name = "w"


def _read_inside(whole: ModelProto) -> None:
    inner = helper.make_graph([helper.make_node("Sum", ["w", "v", "unread"], ["z"])], "inner", [], [])
    whole.graph.node.append(helper.make_node("If", ["c"], ["i"], then_branch=inner, else_branch=inner))


def _of_text(whole: ModelProto) -> None:
    for tensor in whole.graph.initializer:
        # As many bytes as NumPy's references to objects would take.
        tensor.data_type, tensor.raw_data = TensorProto.STRING, bytes(8 * LARGE)


def _of_another_size(whole: ModelProto) -> None:
    for tensor in whole.graph.initializer:
        tensor.dims[:] = [2, LARGE]


def _of_negative_sizes(whole: ModelProto) -> None:
    for tensor in whole.graph.initializer:
        tensor.dims[:] = [-2, -LARGE // 2]


def _stored_twice(whole: ModelProto) -> None:
    for tensor in whole.graph.initializer:
        tensor.float_data.append(1)


def _elsewhere(whole: ModelProto) -> None:
    for tensor in whole.graph.initializer:
        tensor.data_location = TensorProto.EXTERNAL


CHANGES = [_two_of_one_name, _read_inside, _of_text, _of_another_size, _of_negative_sizes, _stored_twice, _elsewhere]


@pytest.mark.parametrize("change", CHANGES)
def test_what_cannot_lie_apart_stays_inside(change: Callable[[ModelProto], None]) -> None:
    whole = model()
    change(whole)
    data = whole.SerializeToString(deterministic=True)
    assert read(data) == (data, 0)


def test_data_that_is_said_twice_is_left_to_the_parser() -> None:
    weight = model().graph.initializer[0]
    twice = weight.SerializeToString() + TensorProto(raw_data=bytes(weight.raw_data)[::-1]).SerializeToString()
    tensor = prefix(key_of(onnx.GraphProto.DESCRIPTOR, "initializer"), len(twice)) + twice
    data = prefix(key_of(ModelProto.DESCRIPTOR, "graph"), len(tensor)) + tensor
    assert read(data) == (parsed(data), 0)


def test_a_file_that_shrinks_meanwhile_is_read_as_it_is() -> None:
    assert without_raw_data(io.BytesIO(FILE[:-LARGE]), len(FILE)) == (FILE[:-LARGE], {})


@pytest.mark.parametrize("copied_bytes", [0, 1 << 22])
def test_no_weight_of_a_model_that_is_read_is_part_of_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copied_bytes: int
) -> None:
    """Small files are parsed as they are, and their weights copied out of the message."""
    monkeypatch.setattr("compress.onnx_io.file._COPIED_BYTES", copied_bytes)
    path, outside = tmp_path / "model.onnx", tmp_path / "outside.onnx"
    whole = model()
    onnx.save(whole, path)
    onnx.save(whole, outside, save_as_external_data=True, location="weights", size_threshold=0)
    for file in (path, outside):
        parted = read_apart(file)
        assert list(parted.weights) == ["w", "v", "unread", "k"]
        assert parted.skeleton == take_apart(model()).skeleton
        assert parted.model() == read_model(file) == model()


@pytest.mark.parametrize("change", CHANGES)
def test_small_files_and_large_ones_are_read_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[ModelProto], None]
) -> None:
    whole, path = model(), tmp_path / "model.onnx"
    change(whole)
    path.write_bytes(whole.SerializeToString(deterministic=True))
    found = []
    for size in (0, 1 << 22):
        monkeypatch.setattr("compress.onnx_io.file._COPIED_BYTES", size)
        try:
            found.append(read_apart(path))
        except ModelFileError as error:
            found.append(str(error))
    assert found[0] == found[1] if isinstance(found[0], str) else found[0].model() == found[1].model()


@pytest.mark.parametrize("copied_bytes", [0, 1 << 22])
def test_a_weight_that_lacks_some_data_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copied_bytes: int
) -> None:
    monkeypatch.setattr("compress.onnx_io.file._COPIED_BYTES", copied_bytes)
    path, whole = tmp_path / "model.onnx", model()
    whole.graph.initializer[0].raw_data = whole.graph.initializer[0].raw_data[:-4]
    path.write_bytes(whole.SerializeToString())
    with pytest.raises(ModelFileError, match=r"tensor 'w' holds \d+ bytes, its shape"):
        read_apart(path)
