"""Packed models: the same bytes back, what is said of them, and what is refused."""

import hashlib
import zlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compress.coding.packed import MAGIC, pack, unpack
from compress.coding.verb import pack_file, unpack_file
from compress.errors import ModelFileError
from compress.options import build
from compress.quantize.format import formats

MODELS = Path(__file__).resolve().parents[2].parent / "shared" / "models"
RNG = np.random.default_rng(0)


def shared_weights(shape, values, zeros):
    table = RNG.normal(size=values).astype(np.float32)
    weights = table[RNG.integers(0, values, shape)]
    weights[RNG.random(shape) < zeros] = 0
    return weights


def model_of(convolution, linear):
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "conv"], ["h"]),
            helper.make_node("Flatten", ["h"], ["f"]),
            helper.make_node("Gemm", ["f", "linear"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", convolution.shape[1], 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", linear.shape[1]])],
        [numpy_helper.from_array(convolution, "conv"), numpy_helper.from_array(linear, "linear")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.fixture(scope="module")
def model():
    return model_of(shared_weights((32, 16, 3, 3), 200, 0.9), shared_weights((32 * 36, 20), 32, 0.9))


@pytest.fixture(scope="module")
def packed(model):
    return pack(model.SerializeToString())


def test_the_same_bytes_come_back(model, packed):
    data = model.SerializeToString()
    assert unpack(packed.data) == data
    assert packed.sha256 == hashlib.sha256(data).hexdigest()
    assert pack(data).data == packed.data


def test_figures_are_those_of_the_weights(model, packed):
    by_name = {tensor.name: tensor for tensor in packed.tensors}
    for name, kind, bits in (("conv", "conv", 8), ("linear", "linear", 5)):
        weights = numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == name))
        tensor = by_name[name]
        assert (tensor.kind, tensor.step_bits) == (kind, bits)
        assert (tensor.weights, tensor.nonzeros) == (weights.size, np.count_nonzero(weights))
        assert tensor.values == len(np.unique(weights[weights != 0]))
        assert tensor.value_entropy_bits <= tensor.value_bits < tensor.value_entropy_bits * 1.05
        assert tensor.index_entropy_bits <= tensor.index_bits < tensor.index_entropy_bits * 1.1
        assert tensor.ratio == pytest.approx(4 * weights.size / tensor.packed_bytes)
    assert len(packed.data) < packed.rest_bytes + sum(tensor.packed_bytes for tensor in packed.tensors)
    # Entropies of the values alone, without fillers, are close below: 5 bits × 10 % of the weights.
    assert 0.5 < by_name["linear"].value_entropy_bits < 0.6
    assert packed.file_bytes / len(packed.data) > 9


def test_dense_weights_need_no_steps():
    weights = shared_weights((64, 64), 16, 0.02)
    (tensor,) = pack(model_of(shared_weights((1, 1, 1, 1), 1, 0), weights).SerializeToString()).tensors
    assert (tensor.step_bits, tensor.index_bits) == (0, 0)


@pytest.mark.parametrize("field", ["raw_data", "float_data"])
def test_weights_come_back_wherever_the_file_keeps_them(model, field):
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    if field == "float_data":
        for tensor in changed.graph.initializer:
            values = numpy_helper.to_array(tensor).reshape(-1)
            tensor.ClearField("raw_data")
            tensor.float_data.extend(values.tolist())
    changed.graph.node.append(
        helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(shared_weights((50, 50), 9, 0.5), "c"))
    )
    data = changed.SerializeToString()
    result = pack(data)
    assert unpack(result.data) == data
    assert sorted(tensor.name for tensor in result.tensors) == ["c", "conv", "linear"]


def test_signed_zeros_not_numbers_and_fields_of_another_order_come_back():
    weights = shared_weights((40, 40), 8, 0.5)
    weights[0, :4] = [-0.0, np.nan, np.inf, -np.inf]
    data = model_of(shared_weights((1, 1, 1, 1), 1, 0), weights).SerializeToString()
    assert unpack(pack(data).data) == data
    # Protobuf merges fields that come twice: the producer's name at the end, after the graph.
    name = b"somebody"
    odd = data + bytes([2 << 3 | 2, len(name)]) + name
    assert onnx.load_from_string(odd).producer_name == "somebody"
    assert unpack(pack(odd).data) == odd


def test_equal_tensors_and_tensors_within_tensors_come_back():
    part = shared_weights((16, 16), 4, 0.3)
    data = model_of(part.reshape(16, 16, 1, 1), np.vstack([part, part, part, part])).SerializeToString()
    assert unpack(pack(data).data) == data


def smallest_models(count=2):
    return sorted(MODELS.glob("*.onnx"), key=lambda path: path.stat().st_size)[:count]


@pytest.mark.skipif(not MODELS.is_dir(), reason="needs ../shared/models")
def test_real_models_come_back_and_shrink_once_their_weights_are_shared(tmp_path):
    for source in smallest_models():
        shared = tmp_path / "shared.onnx"
        converted = build(formats, "deep-compression", {"conv_bits": 5}).convert(onnx.load(source), ()).model
        shared.write_bytes(converted.SerializeToString())
        for file in (source, shared):
            result = pack_file(file, tmp_path / "packed")
            assert unpack_file(tmp_path / "packed", tmp_path / "again.onnx") == file.stat().st_size
            assert (tmp_path / "again.onnx").read_bytes() == file.read_bytes()
        assert len(result.data) < source.stat().st_size / 4
        assert all(tensor.values <= 32 for tensor in result.tensors if tensor.kind == "conv")


HEAD = len(MAGIC) + 56


def refused(data):
    with pytest.raises(ModelFileError) as error:
        unpack(bytes(data))
    text = str(error.value)
    assert "\n" not in text
    assert "next: " in text
    return text


def test_any_cut_is_refused(packed):
    for length in [*range(0, HEAD + 4), *range(HEAD, len(packed.data), 499), len(packed.data) - 1]:
        refused(packed.data[:length])
    assert "more than it says" in refused(packed.data + b"\0")


def test_any_flipped_byte_is_refused(packed):
    for place in [*range(HEAD), *range(HEAD, len(packed.data), 97)]:
        data = bytearray(packed.data)
        data[place] ^= 0x55
        refused(data)


def with_heads(packed, change):
    """Returns the packed file with its heads changed and all sizes set to fit."""
    at = HEAD - 8
    deflated = int.from_bytes(packed.data[at : at + 8], "little")
    plain = change(zlib.decompress(packed.data[HEAD : HEAD + deflated]))
    again = zlib.compress(plain)
    sizes = len(plain).to_bytes(8, "little") + len(again).to_bytes(8, "little")
    return packed.data[: HEAD - 16] + sizes + again + packed.data[HEAD + deflated :]


def test_heads_that_lie_are_refused(packed):
    assert unpack(with_heads(packed, lambda plain: plain)) == unpack(packed.data)
    # Count; then of the first tensor: place, elements, item bytes, step bits, values, entries.
    for place, size, value in (
        (0, 4, 2**32 - 1),
        (4, 8, 2**63),
        (12, 8, 2**40),
        (12, 8, 1),
        (20, 1, 8),
        (21, 1, 60),
        (22, 2, 2**16 - 1),
        (24, 8, 2**40),
        (24, 8, 0),
    ):
        lie = value.to_bytes(size, "little")
        refused(with_heads(packed, lambda plain, at=place, lie=lie: plain[:at] + lie + plain[at + len(lie) :]))


def test_absurd_sizes_are_refused_before_memory_is_asked_for(packed):
    for at in (HEAD - 24, HEAD - 16):
        data = bytearray(packed.data)
        data[at : at + 8] = (2**62).to_bytes(8, "little")
        assert "says that it holds more than it can" in refused(data)
    bomb = zlib.compress(bytes(20_000_000), 9)
    data = packed.data[: HEAD - 16] + (300_000).to_bytes(8, "little") + len(bomb).to_bytes(8, "little") + bomb
    refused(data)
    assert "no packed model" in refused(b"\x08\x0a")


def test_a_missing_or_foreign_file_is_named(tmp_path, model):
    with pytest.raises(ModelFileError, match=r"missing.onnx does not exist"):
        pack_file(tmp_path / "missing.onnx", tmp_path / "p")
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match=r"m\.onnx: it is no packed model; next: make one with `compress pack`"):
        unpack_file(tmp_path / "m.onnx", tmp_path / "u.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.onnx"]
    onnx.save(model, tmp_path / "e.onnx", save_as_external_data=True, location="e.data", size_threshold=0)
    with pytest.raises(ModelFileError, match=r"e\.onnx: the model keeps weights in another file"):
        pack_file(tmp_path / "e.onnx", tmp_path / "p")
