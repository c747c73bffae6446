"""Models in two parts: what is taken apart can be put together, and is written, checked and counted as a whole is."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

from compress.errors import ModelFileError
from compress.onnx_io.file import check_model, write_model
from compress.onnx_io.parts import FileParts
from compress.onnx_io.weights import SMALL_ELEMENTS, Parted, take_apart, without_data

SHARED = Path(__file__).parents[3] / "shared" / "models"
LARGE = (SMALL_ELEMENTS // 2, 3)


def model(*, constant: bool = False, dtype: type = np.float32, **fields: object) -> ModelProto:
    """y = (x · w) + b, with the large weight w as an initializer or a Constant, and a small b."""
    weight = np.arange(np.prod(LARGE)).reshape(LARGE).astype(dtype)
    stored = numpy_helper.from_array(weight, "" if constant else "w")
    stored.doc_string = "a weight"
    if constant:
        stored.ClearField("name")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Add", ["h", "b"], ["y"])]
    nodes = [helper.make_node("Constant", [], ["w"], value=stored), *nodes] if constant else nodes
    kind = stored.data_type
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", kind, (1, LARGE[0]))],
        [helper.make_tensor_value_info("y", kind, (1, LARGE[1]))],
        [*([] if constant else [stored]), numpy_helper.from_array(np.ones(LARGE[1], dtype), "b")],
        doc_string="a graph",
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, **fields)


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8, np.int64])
def test_what_is_taken_apart_is_put_together_again(constant: bool, dtype: type) -> None:
    whole = model(constant=constant, dtype=dtype, producer_name="me", doc_string="it")
    parted = take_apart(whole)
    assert list(parted.weights) == ["w"]
    assert parted.skeleton.ByteSize() < 500 < whole.ByteSize()
    assert parted.model() == whole
    assert b"".join(FileParts(parted)) == whole.SerializeToString(deterministic=True)
    assert FileParts(parted).size == FileParts(whole).size == whole.ByteSize()


@pytest.mark.parametrize(
    "path", sorted(SHARED.glob("*.onnx")) or [None], ids=lambda path: path.stem if path else "none"
)
def test_published_models_are_written_byte_by_byte_as_one_message_is(path: Path | None) -> None:
    if path is None:
        pytest.skip("no published models beside the repository")
    whole = onnx.load(path)
    serialised = whole.SerializeToString(deterministic=True)
    assert b"".join(FileParts(whole)) == serialised
    assert b"".join(FileParts(take_apart(whole))) == serialised
    parted = take_apart(whole)
    assert FileParts(parted).size == sum(map(len, FileParts(parted)))
    assert parted.model() == whole


@given(st.lists(st.integers(0, 300), max_size=4), st.text(max_size=200))
def test_lengths_of_any_size_are_written_as_protobuf_does(sizes: list[int], text: str) -> None:
    weights = [numpy_helper.from_array(np.zeros(size, np.uint8), f"w{i}") for i, size in enumerate(sizes)]
    graph = helper.make_graph([], text, [], [], weights, doc_string=text)
    whole = helper.make_model(graph, producer_name=text)
    assert b"".join(FileParts(whole)) == whole.SerializeToString(deterministic=True)
    assert FileParts(whole).size == whole.ByteSize()


def test_a_weight_that_a_subgraph_reads_stays() -> None:
    inner = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["z"])], "inner", [], [helper.make_empty_tensor_value_info("z")]
    )
    whole = model()
    whole.graph.node.append(helper.make_node("If", ["c"], ["z"], then_branch=inner, else_branch=inner))
    assert not take_apart(whole).weights


@pytest.mark.parametrize("constant", [False, True])
def test_the_checker_sees_the_same_faults_without_the_weights(constant: bool) -> None:
    for fault in ("no such input", "two weights of one name", "assigned twice", "old and not declared"):
        broken = model(constant=constant)
        if fault == "no such input":
            broken.graph.node[-1].input[0] = "nowhere"
        elif fault == "two weights of one name":
            broken.graph.initializer.extend([broken.graph.initializer[0]])
        elif fault == "assigned twice":
            broken.graph.node[-1].output[0] = "w"
        else:
            broken.ir_version = 3
        with pytest.raises((onnx.checker.ValidationError, ValueError)) as found:
            onnx.checker.check_model(broken)
        with pytest.raises(ModelFileError, match="refused by the ONNX checker") as refused:
            check_model(broken, "it")
        first_line = str(found.value).strip().splitlines()[0].partition("==> Context")[0].strip()
        assert first_line in str(refused.value)
    check_model(model(constant=constant), "it")
    check_model(take_apart(model(constant=constant)), "it")


def test_without_data_nothing_large_is_left() -> None:
    assert without_data(model()).graph.initializer[0].dims == [0]
    assert without_data(take_apart(model(constant=True))).ByteSize() < 500


def test_written_from_its_parts(tmp_path: Path) -> None:
    write_model(take_apart(model(constant=True)), tmp_path / "parted.onnx")
    assert onnx.load(tmp_path / "parted.onnx") == model(constant=True)
    assert Parted(ModelProto()).model() == ModelProto()


def test_data_of_another_length_is_left_where_it_is() -> None:
    broken = model()
    broken.graph.initializer[0].raw_data = b"\0" * 8
    assert not take_apart(broken).weights
    assert broken.graph.initializer[0].data_type == TensorProto.FLOAT
