"""A result's file is written while it is proven: it appears when it is kept, and nothing else stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from compress.errors import MachineError
from compress.onnx_io.parts import FileParts
from compress.onnx_io.weights import take_apart
from compress.rewrite import rewrite_file
from compress.rewrite.drafts import Drafts
from compress.rewrite.proof import Judge, Proof


def test_what_is_kept_appears_and_the_rest_goes(tmp_path: Path) -> None:
    target = tmp_path / "out" / "model.onnx"
    first, second = take_apart(_model(1)), take_apart(_model(2))
    with Drafts(target) as drafts:
        drafts.write(FileParts(first))
        drafts.write(FileParts(second))
        assert not target.exists()
        assert len(list(target.parent.iterdir())) == 1
        drafts.keep(second)
    assert list(target.parent.iterdir()) == [target]
    assert onnx.load(target) == second.model()


def test_another_result_than_the_draft_can_be_kept(tmp_path: Path) -> None:
    target, other = tmp_path / "model.onnx", take_apart(_model(2))
    with Drafts(target) as drafts:
        drafts.write(FileParts(take_apart(_model(1))))
        drafts.keep(other)
    assert list(tmp_path.iterdir()) == [target]
    assert onnx.load(target) == other.model()


def test_nothing_stays_of_what_fails(tmp_path: Path) -> None:
    def fail() -> None:
        with Drafts(tmp_path / "model.onnx") as drafts:
            drafts.write(FileParts(take_apart(_model(1))))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with Drafts(tmp_path / "file" / "model.onnx") as drafts, pytest.raises(MachineError, match="cannot"):
        drafts.write(FileParts(take_apart(_model(1))))


def test_the_file_is_there_before_the_proof(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = tmp_path / "in.onnx", tmp_path / "out" / "model.onnx"
    onnx.save(_model(1), source)
    seen: list[int] = []
    prove = Judge.prove

    def watched(judge: Judge, *given: object, **named: bool) -> Proof:
        seen.append(len(list(target.parent.iterdir())))
        assert not target.exists()
        return prove(judge, *given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Judge, "prove", watched)
    result = rewrite_file(source, target)
    assert seen == [1]
    assert list(target.parent.iterdir()) == [target]
    assert onnx.load(target) == result.model


def test_a_rewrite_that_is_interrupted_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = tmp_path / "in.onnx", tmp_path / "out" / "model.onnx"
    onnx.save(_model(1), source)

    def interrupted(*_: object, **__: object) -> Proof:
        raise KeyboardInterrupt

    monkeypatch.setattr(Judge, "prove", interrupted)
    with pytest.raises(KeyboardInterrupt):
        rewrite_file(source, target)
    assert list(tmp_path.iterdir()) == [source]


def _model(factor: float) -> ModelProto:
    """A convolution of which one channel is dead."""
    weight = np.random.default_rng(0).standard_normal((4, 4, 3, 3)).astype(np.float32) * np.float32(factor)
    last = weight.copy()
    last[:, 2] = 0
    shape = (1, 4, 8, 8)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["h"], pads=[1] * 4),
            helper.make_node("Relu", ["h"], ["a"]),
            helper.make_node("Conv", ["a", "v"], ["y"], pads=[1] * 4),
        ],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(last, "v")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
