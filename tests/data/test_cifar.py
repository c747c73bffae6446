"""CIFAR in its official layout, written byte by byte and read back; and every way in which it can be broken."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from compress.data import load_dataset
from compress.data.sets.cifar import CIFAR_10, CIFAR_100, read_cifar
from compress.errors import DataError
from compress.recipe import DataSettings

SMALL_10 = dataclasses.replace(CIFAR_10, file_images=(20, 10))
SMALL_100 = dataclasses.replace(CIFAR_100, file_images=(200, 100))


def random_bytes(seed, *shape):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def write_cifar(root, layout, folder=None):
    """Writes records label byte(s) + R, G, B planes, and returns file → (labels, images)."""
    written = {}
    for seed, file in enumerate((*layout.train_files, *layout.test_files)):
        count = layout.file_images[file in layout.test_files]
        images = random_bytes(seed, count, 3, 32, 32)
        labels = [np.arange(count) * 7 % classes for classes in layout.label_classes]
        records = b"".join(
            bytes(int(part[i]) for part in labels)
            + images[i, 0].tobytes()
            + images[i, 1].tobytes()
            + images[i, 2].tobytes()
            for i in range(count)
        )
        write(root / (folder or layout.folders[0]) / file, records)
        written[file] = labels[-1], images
    return written


@pytest.mark.parametrize("layout", [SMALL_10, SMALL_100], ids=lambda layout: layout.name)
@pytest.mark.parametrize("folder", [0, 1, 2])
def test_cifar_comes_back_byte_for_byte(tmp_path, layout, folder):
    written = write_cifar(tmp_path, layout, layout.folders[folder])
    raw = read_cifar(layout, [tmp_path / "nothing here", tmp_path])
    np.testing.assert_array_equal(raw.train.images, np.concatenate([written[f][1] for f in layout.train_files]))
    np.testing.assert_array_equal(raw.train.labels, np.concatenate([written[f][0] for f in layout.train_files]))
    np.testing.assert_array_equal(raw.test.images, written[layout.test_files[0]][1])
    np.testing.assert_array_equal(raw.test.labels, written[layout.test_files[0]][0])
    assert raw.train.images.dtype == np.uint8
    assert raw.classes == layout.label_classes[-1]


def test_an_absent_set_says_which_files_to_put_where(tmp_path):
    with pytest.raises(DataError) as caught:
        load_dataset(DataSettings(source="cifar-10"), base=tmp_path / "recipes", seed=0)
    message = str(caught.value)
    for file in (*CIFAR_10.train_files, *CIFAR_10.test_files):
        assert f"cifar-10/{file}" in message
    for root in (tmp_path / "data", tmp_path / "recipes", tmp_path / "recipes" / "data"):
        assert str(root) in message
    assert "COMPRESS_DATA" in message
    assert "cifar-10-binary.tar.gz" in message


def test_a_missing_file_is_named(tmp_path):
    write_cifar(tmp_path, SMALL_10)
    (tmp_path / "cifar-10" / "data_batch_3.bin").unlink()
    with pytest.raises(DataError, match=r"'cifar-10' in .*cifar-10 lacks data_batch_3.bin; next: take it from"):
        read_cifar(SMALL_10, [tmp_path])


def test_a_whole_copy_elsewhere_wins_over_a_partial_one(tmp_path):
    write_cifar(tmp_path / "a", SMALL_10)
    (tmp_path / "a" / "cifar-10" / "test_batch.bin").unlink()
    write_cifar(tmp_path / "b", SMALL_10, "cifar-10-batches-bin")
    assert len(read_cifar(SMALL_10, [tmp_path / "a", tmp_path / "b"]).test.labels) == 10


@pytest.mark.parametrize("change", [-1, +1])
def test_a_wrong_size_says_got_and_expected(tmp_path, change):
    write_cifar(tmp_path, SMALL_10)
    path = tmp_path / "cifar-10" / "data_batch_2.bin"
    path.write_bytes((path.read_bytes() + b"x")[: 20 * 3073 + change])
    expected = rf"data_batch_2.bin: wrong size; got {61460 + change} bytes; allowed: 61460 bytes; next: delete it"
    with pytest.raises(DataError, match=expected):
        read_cifar(SMALL_10, [tmp_path])


def test_the_official_sizes_are_demanded(tmp_path):
    write_cifar(tmp_path, SMALL_10)
    with pytest.raises(DataError, match="got 61460 bytes; allowed: 30730000 bytes"):
        load_dataset(DataSettings(source="cifar-10"), base=tmp_path, seed=0)
    write_cifar(tmp_path, SMALL_100)
    with pytest.raises(DataError, match="allowed: 153700000 bytes"):
        load_dataset(DataSettings(source="cifar-100"), base=tmp_path, seed=0)


@pytest.mark.parametrize(
    ("layout", "file", "byte", "value", "allowed"),
    [
        (SMALL_10, "test_batch.bin", 3073 * 4, 10, "0 to 9"),
        (SMALL_100, "train.bin", 3074 * 4, 20, "0 to 19"),
        (SMALL_100, "train.bin", 3074 * 4 + 1, 100, "0 to 99"),
    ],
)
def test_a_label_out_of_range_is_named(tmp_path, layout, file, byte, value, allowed):
    write_cifar(tmp_path, layout)
    path = tmp_path / layout.name / file
    data = bytearray(path.read_bytes())
    data[byte] = value
    path.write_bytes(data)
    with pytest.raises(DataError, match=f"{file}: label of image 4 is out of range; got {value}; allowed: {allowed}"):
        read_cifar(layout, [tmp_path])
