"""IDX files, plain and gzipped, written byte by byte and read back; and every way in which they can be broken."""

import dataclasses
import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest

from compress.data import load_dataset
from compress.data.sets.mnist import FASHION_MNIST, MNIST, read_idx, read_mnist
from compress.errors import DataError
from compress.recipe import DataSettings

SMALL_MNIST = dataclasses.replace(MNIST, train_images=30, test_images=10, sha256={})


def random_bytes(seed, *shape):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def write_mnist(root, layout, folder, packed=()):
    written = {}
    for seed, (part, count) in enumerate((("train", layout.train_images), ("t10k", layout.test_images))):
        images, labels = random_bytes(seed, count, 28, 28), (np.arange(count) * 3 % 10).astype(np.uint8)
        files = {
            f"{part}-images-idx3-ubyte": struct.pack(">IIII", 2051, count, 28, 28) + images.tobytes(),
            f"{part}-labels-idx1-ubyte": struct.pack(">II", 2049, count) + labels.tobytes(),
        }
        for name, data in files.items():
            if name in packed:
                write(root / folder / f"{name}.gz", gzip.compress(data))
            else:
                write(root / folder / name, data)
        written[part] = images, labels
    return written


@pytest.mark.parametrize("folder", MNIST.folders)
@pytest.mark.parametrize("packed", [(), tuple(MNIST.sha256), ("t10k-images-idx3-ubyte",)])
def test_mnist_comes_back_byte_for_byte_plain_and_gzipped(tmp_path, folder, packed):
    written = write_mnist(tmp_path, SMALL_MNIST, folder, packed)
    raw = read_mnist(SMALL_MNIST, [tmp_path])
    np.testing.assert_array_equal(raw.train.images[:, 0], written["train"][0])
    np.testing.assert_array_equal(raw.train.labels, written["train"][1])
    np.testing.assert_array_equal(raw.test.images[:, 0], written["t10k"][0])
    np.testing.assert_array_equal(raw.test.labels, written["t10k"][1])


def idx(path):
    return read_idx(path, (30,))


def test_idx_errors_name_the_file_and_the_reason(tmp_path):
    path = tmp_path / "labels"
    good = struct.pack(">II", 2049, 30) + bytes(30)
    path.write_bytes(good[:-1])
    with pytest.raises(DataError, match="labels: wrong size; got 37 bytes; allowed: 38 bytes"):
        idx(path)
    path.write_bytes(struct.pack(">II", 2050, 30) + bytes(30))
    with pytest.raises(DataError, match="labels: not the IDX header; got 000008020000001e; allowed: 000008010000001e"):
        idx(path)
    path.write_bytes(good)
    with pytest.raises(DataError, match=f"labels: wrong SHA-256; got {hashlib.sha256(good).hexdigest()}; allowed: 00"):
        read_idx(path, (30,), "00")
    assert not read_idx(path, (30,), hashlib.sha256(good).hexdigest()).any()


def test_a_damaged_gz_is_refused(tmp_path):
    path = tmp_path / "labels.gz"
    whole = gzip.compress(struct.pack(">II", 2049, 30) + bytes(range(30)))
    for data, message in (
        (whole[:-9], "cannot be unpacked"),
        (b"not gzip at all", "cannot be unpacked"),
        (whole[:15] + b"\xff\xff\xff" + whole[18:], "cannot be unpacked|wrong size"),
        (gzip.compress(bytes(37)), "wrong size, unpacked; got 37 bytes; allowed: 38 bytes"),
        (gzip.compress(bytes(1000)), "wrong size, unpacked; got more than 38 bytes"),
    ):
        path.write_bytes(data)
        with pytest.raises(DataError, match=rf"labels.gz: ({message})"):
            idx(tmp_path / "labels")


def test_the_published_checksums_are_demanded(tmp_path):
    for layout in (MNIST, FASHION_MNIST):
        assert len(set(layout.sha256.values())) == 4
        write(
            tmp_path / layout.name / "train-images-idx3-ubyte",
            struct.pack(">IIII", 2051, 60000, 28, 28) + bytes(60000 * 784),
        )
        for name in layout.sha256:
            if not name.startswith("train-images"):
                write(tmp_path / layout.name / name, b"never read")
        with pytest.raises(DataError, match=f"wrong SHA-256; .* allowed: {layout.sha256['train-images-idx3-ubyte']}"):
            load_dataset(DataSettings(source=layout.name), base=tmp_path, seed=0)


def test_absent_mnist_mentions_gz(tmp_path):
    with pytest.raises(DataError, match=r"put fashion-mnist/train-images-idx3-ubyte, .*plain or \.gz"):
        load_dataset(DataSettings(source="fashion-mnist"), base=tmp_path, seed=0)
