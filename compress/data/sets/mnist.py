"""MNIST and Fashion-MNIST in the IDX format, plain or gzipped: 28×28 grey, 60,000 training and 10,000 test images.

An IDX file is 0, 0, 8 (unsigned bytes), the rank, each extent as a big-endian 32-bit number, then the bytes.

Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits", 1998; H. Xiao, K. Rasul,
R. Vollgraf, "Fashion-MNIST", 2017.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from compress.data.sources import Part, RawData, check_labels, check_sha256, datasets, find_set, read_exact
from compress.errors import DataError

_SIDE = 28
_CLASSES = 10


@dataclass(frozen=True)
class Mnist:
    """One set in this layout.

    Args:
        name: of the data set.
        folders: names it goes by.
        mean: [1], of the training images.
        std: [1], of the training images.
        origin: where it comes from.
        sha256: file → SHA-256 of its bytes, unpacked.
        train_images: in the training files.
        test_images: in the test files.
    """

    name: str
    folders: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    origin: str
    sha256: Mapping[str, str] = field(default_factory=dict)
    train_images: int = 60_000
    test_images: int = 10_000


MNIST = Mnist(
    name="mnist",
    folders=("mnist", "MNIST/raw", "MNIST"),
    mean=(0.1307,),
    std=(0.3081,),
    origin="http://yann.lecun.com/exdb/mnist/",
    sha256={
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
)

FASHION_MNIST = Mnist(
    name="fashion-mnist",
    folders=("fashion-mnist", "FashionMNIST/raw", "FashionMNIST"),
    mean=(0.2860,),
    std=(0.3530,),
    origin="https://github.com/zalandoresearch/fashion-mnist",
    sha256={
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
)


@datasets.register("mnist")
def mnist(roots: Sequence[Path]) -> RawData:
    """Returns MNIST."""
    return read_mnist(MNIST, roots)


@datasets.register("fashion-mnist")
def fashion_mnist(roots: Sequence[Path]) -> RawData:
    """Returns Fashion-MNIST."""
    return read_mnist(FASHION_MNIST, roots)


def read_mnist(layout: Mnist, roots: Sequence[Path]) -> RawData:
    """Finds and reads the four files of `layout`.

    Raises:
        DataError: if a file is missing, of the wrong size or checksum, or not in the IDX format.
    """
    files = [f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
    place = find_set(layout.name, layout.folders, files, roots, origin=layout.origin, gz=True)
    return RawData(
        _read(layout, place, "train", layout.train_images),
        _read(layout, place, "t10k", layout.test_images),
        classes=_CLASSES,
        mean=layout.mean,
        std=layout.std,
    )


def _read(layout: Mnist, place: Path, part: str, count: int) -> Part:
    images_name, labels_name = f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"
    images = read_idx(place / images_name, (count, _SIDE, _SIDE), layout.sha256.get(images_name))
    labels = read_idx(place / labels_name, (count,), layout.sha256.get(labels_name))
    check_labels(place / labels_name, labels, _CLASSES)
    return Part(images[:, None], labels.astype(np.int64))


def read_idx(path: Path, shape: tuple[int, ...], sha256: str | None = None) -> npt.NDArray[np.uint8]:
    """Reads an IDX file of bytes; where `path` is absent, its .gz neighbour.

    Args:
        path: the plain file.
        shape: what it must hold.
        sha256: of the plain bytes, if known.

    Raises:
        DataError: if size, header or checksum are not what they must be, or the .gz is damaged.
    """
    header = bytes([0, 0, 8, len(shape)]) + b"".join(extent.to_bytes(4, "big") for extent in shape)
    file_bytes = len(header) + int(np.prod(shape))
    data = read_exact(path, file_bytes) if path.is_file() else _unpacked(path.with_name(f"{path.name}.gz"), file_bytes)
    if data[: len(header)].tobytes() != header:
        got = data[: len(header)].tobytes().hex()
        raise DataError(f"{path}: not the IDX header", got=got, allowed=header.hex(), next_step="download it again")
    if sha256 is not None:
        check_sha256(path, hashlib.sha256(data.data).hexdigest(), sha256)
    return data[len(header) :].reshape(shape)


def _unpacked(path: Path, file_bytes: int) -> npt.NDArray[np.uint8]:
    try:
        with gzip.open(path) as file:
            # One byte more than wanted tells a file that is too long; no more of it is unpacked.
            data = file.read(file_bytes + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be unpacked ({error})", next_step="download it again") from error
    if len(data) != file_bytes:
        got = f"{len(data)} bytes" if len(data) < file_bytes else f"more than {file_bytes} bytes"
        raise DataError(
            f"{path}: wrong size, unpacked", got=got, allowed=f"{file_bytes} bytes", next_step="download it again"
        )
    return np.frombuffer(data, np.uint8)
