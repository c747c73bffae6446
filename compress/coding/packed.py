"""A packed model: an ONNX file without its shared weights, and these coded; unpacked, the same file, bit for bit.

    magic · SHA-256 of the ONNX file · its size · size of the heads, plain and deflated · the heads, deflated · words

The heads hold where each coded tensor stood and how it is coded, and then all other bytes of the file in their order.
Only bytes are moved: whatever wrote the file, and however, it comes back.

Source: S. Han, H. Mao, W. Dally, "Deep Compression", 2016, sections 2 and 4; 8 bits a step in convolutions, 5 in
linear layers. The paper packs a network of Caffe; the container is ours.
"""

from __future__ import annotations

import hashlib
import math
import struct
import zlib
from bisect import bisect
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from compress.coding.tensor_code import Reader, TensorCode
from compress.errors import ModelFileError
from compress.onnx_io.file import parse_model
from compress.onnx_io.tensors import is_external, tensors

if TYPE_CHECKING:
    import onnx

MAGIC = b"compress packed 1\n"
_FILE = struct.Struct("<32sQQQ")
_COUNT = struct.Struct("<I")
_PLACE = struct.Struct("<Q")
_LARGEST = 2**31 - 1  # of an ONNX file
_SMALLEST_TENSOR = 256  # bytes: below that the heads are larger than what they save
# Deflate makes at most a thousandth of anything; only a file of nothing but zeros would get beyond this.
_MOST_EXPANSION = 4096
_FREE_BYTES = 1 << 20
_NEXT = "get the file again"


@dataclass(frozen=True)
class PackedTensor:
    """What packing made of one tensor.

    Attributes:
        name: of the tensor.
        kind: `conv` for three axes or more, else `linear`.
        step_bits: of a step before it is coded; 0 where zeros are so few that each is stored among the values.
        weights: its elements.
        nonzeros: of them.
        values: different ones among the nonzeros.
        value_bits: a weight, for places in the table of values.
        value_entropy_bits: a weight, that no code of single places gets below.
        index_bits: a weight, for steps from one nonzero to the next.
        index_entropy_bits: a weight, that no code of single steps gets below.
        packed_bytes: of words, table and code lengths, before the latter two are deflated.
        ratio: bytes in float32 over these.
    """

    name: str
    kind: str
    step_bits: int
    weights: int
    nonzeros: int
    values: int
    value_bits: float
    value_entropy_bits: float
    index_bits: float
    index_entropy_bits: float
    packed_bytes: int
    ratio: float


@dataclass(frozen=True)
class Packed:
    """A packed model.

    Attributes:
        data: of the packed file.
        sha256: of the ONNX file, which unpacking was seen to give.
        file_bytes: of the ONNX file.
        rest_bytes: all of the packed file but the words: heads and whatever is not coded, deflated.
        tensors: that are coded.
    """

    data: bytes
    sha256: str
    file_bytes: int
    rest_bytes: int
    tensors: tuple[PackedTensor, ...]

    def to_dict(self) -> dict[str, Any]:
        """Returns all but the data as a JSON value."""
        figures = {"sha256": self.sha256, "file_bytes": self.file_bytes, "packed_bytes": len(self.data)}
        return {**figures, "rest_bytes": self.rest_bytes, "tensors": [asdict(tensor) for tensor in self.tensors]}


def pack(data: bytes, *, conv_index_bits: int = 8, linear_index_bits: int = 5) -> Packed:
    """Packs an ONNX file, and sees to it that it comes back.

    Args:
        data: its bytes.
        conv_index_bits: of a step from one nonzero to the next in tensors of three axes or more, 1…12.
        linear_index_bits: the same in the others.

    Raises:
        ModelFileError: if it is no ONNX file, keeps weights in another one, or would not come back bit for bit.
    """
    model = parse_model(data, "the model")
    if any(is_external(tensor) for tensor in tensors(model)):
        raise ModelFileError("the model keeps weights in another file", next_step="save it as one file")
    places, heads, words, coded = [], [], [], []
    for start, content, tensor in _placed(model, data):
        kind = "conv" if len(tensor.dims) >= 3 else "linear"
        item_bytes = len(content) // math.prod(tensor.dims)
        code = _smaller(content, item_bytes, conv_index_bits if kind == "conv" else linear_index_bits)
        if code is None or code.size >= len(zlib.compress(content)):
            continue
        places.append((start, start + len(content)))
        heads.append(_PLACE.pack(start) + code.head)
        words.append(code.data)
        coded.append(_described(tensor.name, kind, code))
    ends = [0, *(end for _, end in places)]
    starts = [*(start for start, _ in places), len(data)]
    rest = b"".join(data[end:start] for end, start in zip(ends, starts, strict=True))
    plain = _COUNT.pack(len(heads)) + b"".join(heads) + rest
    deflated = zlib.compress(plain, 9)
    digest = hashlib.sha256(data)
    first = MAGIC + _FILE.pack(digest.digest(), len(data), len(plain), len(deflated)) + deflated
    packed = Packed(first + b"".join(words), digest.hexdigest(), len(data), len(first), tuple(coded))
    if unpack(packed.data) != data:
        raise ModelFileError("the packed model would not come back bit for bit", next_step="keep the ONNX file")
    return packed


def unpack(packed: bytes) -> bytes:
    """Returns the bytes of the ONNX file that was packed.

    Raises:
        ModelFileError: if they are no packed model, cut short, damaged, or ask for more memory than they can fill.
    """
    if not packed.startswith(MAGIC):
        raise ModelFileError("it is no packed model", next_step="make one with `compress pack`")
    reader = Reader(packed)
    reader.take(len(MAGIC))
    digest, size, plain_size, deflated_size = reader.fields(_FILE)
    if max(size, plain_size) > min(_LARGEST, _FREE_BYTES + _MOST_EXPANSION * len(packed)):
        raise ModelFileError(
            "the packed file says that it holds more than it can", got=f"{max(size, plain_size)} bytes", next_step=_NEXT
        )
    heads = Reader(_inflated(reader.take(deflated_size), plain_size))
    words = Reader(packed[reader.position :])
    parts: list[tuple[int, bytes]] = []
    left = size
    for _ in range(heads.fields(_COUNT)[0]):
        (start,) = heads.fields(_PLACE)
        content = TensorCode.read(heads, words, left)
        left -= len(content)
        parts.append((start, content))
    words.require_end()
    pieces, position = [], 0
    for start, content in parts:
        if start < position:
            raise ModelFileError("the packed file puts tensors over each other", next_step=_NEXT)
        pieces += [heads.take(start - position), content]
        position = start + len(content)
    data = b"".join([*pieces, heads.take(len(heads.data) - heads.position)])
    if len(data) != size or hashlib.sha256(data).digest() != digest:
        raise ModelFileError("the packed file is damaged: its content has another SHA-256", next_step=_NEXT)
    return data


def _placed(model: onnx.ModelProto, data: bytes) -> Iterator[tuple[int, bytes, onnx.TensorProto]]:
    """Yields the large tensors in the order in which their elements stand in the file, with where that is.

    Equal bytes at another place serve as well: they are what comes back.
    """
    taken: list[tuple[int, int]] = []
    found = []
    for tensor in tensors(model):
        content, elements = _elements(tensor), math.prod(tensor.dims)
        if len(content) < _SMALLEST_TENSOR or len(content) not in (elements, 2 * elements, 4 * elements):
            continue
        # Tensors mostly stand in the order in which they are listed.
        start = data.find(content, taken[-1][1] if taken else 0)
        start = data.find(content) if start < 0 else start
        at = bisect(taken, (start, start))
        before, after = taken[at - 1 : at] if at else [], taken[at : at + 1]
        if start < 0 or any(end > start for _, end in before) or any(s < start + len(content) for s, _ in after):
            continue
        taken.insert(at, (start, start + len(content)))
        found.append((start, content, tensor))
    yield from sorted(found, key=lambda place: place[0])


def _elements(tensor: onnx.TensorProto) -> bytes:
    """Returns the bytes of a tensor's elements as they stand in a file; packed floats stand as raw ones do."""
    if tensor.HasField("raw_data"):
        return bytes(tensor.raw_data)
    floats = tensor.float_data
    return struct.pack(f"<{len(floats)}f", *floats) if len(floats) else b""


def _smaller(content: bytes, item_bytes: int, step_bits: int) -> TensorCode | None:
    """Returns the smaller one of two codes: with steps, or with every zero as a filler, where zeros are few."""
    codes = [TensorCode.of(content, item_bytes, bits) for bits in (step_bits, 0)]
    return min((code for code in codes if code is not None), key=lambda code: code.size, default=None)


def _inflated(deflated: bytes, size: int) -> bytes:
    inflater = zlib.decompressobj()
    try:
        plain = inflater.decompress(deflated, size + 1)
    except zlib.error as error:
        raise ModelFileError(f"the packed file is damaged ({error})", next_step=_NEXT) from error
    if len(plain) != size or not inflater.eof or inflater.unused_data:
        raise ModelFileError("the packed file is cut short, or its lengths are wrong", next_step=_NEXT)
    return plain


def _described(name: str, kind: str, code: TensorCode) -> PackedTensor:
    return PackedTensor(
        name=name,
        kind=kind,
        step_bits=code.step_bits,
        weights=code.elements,
        nonzeros=code.nonzeros,
        values=len(code.table),
        value_bits=8 * len(code.values.data) / code.elements,
        value_entropy_bits=code.values.entropy_bits / code.elements,
        index_bits=8 * len(code.steps.data) / code.elements,
        index_entropy_bits=code.steps.entropy_bits / code.elements,
        packed_bytes=code.size,
        ratio=4 * code.elements / code.size,
    )
