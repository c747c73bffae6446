"""STL-10: planes that run column by column, labels that start at one."""

from pathlib import Path

import numpy as np
import pytest

from compress.data import load_dataset
from compress.data.sets.stl10 import Stl10, read_stl10
from compress.errors import DataError
from compress.recipe import DataSettings

SMALL_STL = Stl10(train_images=20, test_images=10)


def random_bytes(seed, *shape):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def write_stl(root, layout, folder="stl10_binary"):
    written = {}
    for seed, (part, count) in enumerate((("train", layout.train_images), ("test", layout.test_images))):
        images, labels = random_bytes(seed, count, 3, 96, 96), (np.arange(count) % 10).astype(np.uint8)
        columns = b"".join(image[c, :, x].tobytes() for image in images for c in range(3) for x in range(96))
        write(root / folder / f"{part}_X.bin", columns)
        write(root / folder / f"{part}_y.bin", (labels + 1).tobytes())
        written[part] = images, labels
    return written


@pytest.mark.parametrize("folder", ["stl-10", "stl10_binary", "stl-10/stl10_binary"])
def test_stl10_is_read_column_by_column_and_labels_start_at_zero(tmp_path, folder):
    written = write_stl(tmp_path, SMALL_STL, folder)
    raw = read_stl10(SMALL_STL, [tmp_path])
    for part, name in ((raw.train, "train"), (raw.test, "test")):
        np.testing.assert_array_equal(part.images, written[name][0])
        np.testing.assert_array_equal(part.labels, written[name][1])


def test_stl10_errors(tmp_path):
    write_stl(tmp_path, SMALL_STL)
    with pytest.raises(DataError, match=r"train_X.bin: wrong size; got 552960 bytes; allowed: 138240000 bytes"):
        load_dataset(DataSettings(source="stl-10"), base=tmp_path, seed=0)
    (tmp_path / "stl10_binary" / "train_y.bin").write_bytes(bytes(20))
    with pytest.raises(DataError, match=r"train_y.bin: label of image 0 is out of range; got -1; allowed: 0 to 9"):
        read_stl10(SMALL_STL, [tmp_path])
