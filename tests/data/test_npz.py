"""NumPy archives: what is taken, what is refused."""

import numpy as np
import pytest

from compress.data import load_dataset
from compress.errors import DataError
from compress.recipe import DataSettings


def arrays(**changes):
    rng = np.random.default_rng(0)
    found = {
        "x_train": rng.integers(0, 256, (40, 3, 6, 5)).astype(np.uint8),
        "y_train": np.arange(40) % 4,
        "x_test": rng.integers(0, 256, (8, 3, 6, 5)).astype(np.uint8),
        "y_test": np.arange(8) % 4,
    }
    found.update(changes)
    return {key: value for key, value in found.items() if value is not None}


def load(folder, seed=0, settings=None, **changes):
    np.savez(folder / "set.npz", **arrays(**changes))
    return load_dataset(DataSettings(source="set.npz", **(settings or {})), base=folder, seed=seed)


def numbered(count, start=0):
    """Images that say their own number."""
    return (np.arange(start, start + count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 5, 6))).astype(
        np.uint8
    )


def test_arrays_come_back_byte_for_byte(tmp_path):
    data = load(tmp_path, settings={"validation": 0.0})
    np.testing.assert_array_equal(data.train.images, arrays()["x_train"])
    np.testing.assert_array_equal(data.train.labels, arrays()["y_train"])
    np.testing.assert_array_equal(data.test.images, arrays()["x_test"])
    assert (len(data.validation), data.classes, data.input_shape) == (0, 4, (3, 6, 5))
    assert data.name == "set.npz"


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_validation_share_is_stratified_disjoint_and_decided_by_the_seed(tmp_path, seed):
    settings = {"validation": 0.25}
    changes = {"x_train": numbered(40), "x_test": numbered(8, 100)}
    data, again, other = (load(tmp_path, s, settings, **changes) for s in (seed, seed, seed + 1))
    numbers = [split.images[:, 0, 0, 0].tolist() for split in (data.train, data.validation, data.test)]
    assert sorted(numbers[0] + numbers[1]) == list(range(40))
    assert numbers[2] == list(range(100, 108))
    assert [n % 4 for n in numbers[1]] == data.validation.labels.tolist()
    assert np.bincount(data.validation.labels).tolist() == [3, 3, 2, 2]
    np.testing.assert_array_equal(data.validation.images, again.validation.images)
    assert not np.array_equal(data.validation.images, other.validation.images)


def test_validation_images_of_its_own_are_used(tmp_path):
    changes = {"x_validation": numbered(4, 50).repeat(3, 1).transpose(0, 1, 3, 2), "y_validation": np.arange(4)}
    data = load(tmp_path, **changes)
    np.testing.assert_array_equal(data.validation.images, changes["x_validation"])
    assert len(data.train) == 40


def test_test_images_change_nothing_but_the_test_split(tmp_path):
    one = load(tmp_path)
    two = load(tmp_path, x_test=np.zeros((8, 3, 6, 5), np.uint8), y_test=np.zeros(8, int))
    assert (one.train.mean, one.train.std, one.classes) == (two.train.mean, two.train.std, two.classes)
    np.testing.assert_array_equal(one.validation.images, two.validation.images)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float16, np.float32, np.float64])
def test_types_of_pixels(tmp_path, dtype):
    scale = 255 if np.dtype(dtype).kind == "f" else 1
    x = {key: (arrays()[key] / scale).astype(dtype) for key in ("x_train", "x_test")}
    data = load(tmp_path, **x)
    batch, _ = next(data.train.batches(36))
    np.testing.assert_allclose(batch.mean((0, 2, 3)), 0, atol=1e-3)
    np.testing.assert_allclose(batch.std((0, 2, 3)), 1, atol=1e-3)
    assert data.train.images.dtype == (np.float32 if scale == 255 else np.uint8)


def test_grey_images_without_a_channel_axis_and_columns_of_labels(tmp_path):
    x_train, x_test = (arrays()[key][:, 0] for key in ("x_train", "x_test"))
    data = load(tmp_path, x_train=x_train, x_test=x_test, y_train=arrays()["y_train"][:, None].astype(np.uint8))
    assert data.input_shape == (1, 6, 5)
    assert data.train.labels.dtype == np.int64


def test_the_recipes_mean_and_std_win(tmp_path):
    data = load(tmp_path, settings={"mean": [0.1, 0.2, 0.3], "std": [1.0, 2.0, 3.0], "validation": 0.0})
    assert data.test.mean == (0.1, 0.2, 0.3)
    batch, _ = next(data.train.batches(40))
    expected = (arrays()["x_train"] / 255 - np.reshape([0.1, 0.2, 0.3], (3, 1, 1))) / np.reshape([1, 2, 3], (3, 1, 1))
    np.testing.assert_allclose(batch, expected, atol=1e-6)
    half = load(tmp_path, settings={"mean": [0.1, 0.2, 0.3]})
    assert half.train.mean == (0.1, 0.2, 0.3)
    np.testing.assert_allclose(half.train.std, (half.train.images / 255).std((0, 2, 3)), rtol=1e-12)


def test_a_constant_channel_does_not_divide_by_zero(tmp_path):
    x = arrays()["x_train"]
    x[:, 1] = 7
    batch, _ = next(load(tmp_path, x_train=x).train.batches(8))
    np.testing.assert_allclose(batch[:, 1], 0, atol=1e-6)


def test_a_path_counts_from_the_recipe_then_from_the_data_roots(tmp_path, monkeypatch):
    for folder in ("recipes", "sets"):
        (tmp_path / folder).mkdir()
    np.savez(tmp_path / "sets" / "set.npz", **arrays())
    monkeypatch.setenv("COMPRESS_DATA", str(tmp_path / "sets"))
    settings = DataSettings(source="set.npz", validation=0.0)
    assert len(load_dataset(settings, base=tmp_path / "recipes", seed=0).train) == 40
    smaller = arrays(x_train=arrays()["x_train"][:20], y_train=arrays()["y_train"][:20])
    np.savez(tmp_path / "recipes" / "set.npz", **smaller)
    assert len(load_dataset(settings, base=tmp_path / "recipes", seed=0).train) == 20


X = arrays()["x_train"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_test": None, "y_test": None}, r"set.npz lacks x_test, y_test; allowed: x_train, .*; next: write it with"),
        ({"x_validation": X}, "set.npz lacks y_validation"),
        ({"x_train": X.reshape(40, -1)}, r"train: images have the wrong rank; got \[40, 90\]; allowed: \[N, C, H, W\]"),
        ({"x_train": X.transpose(0, 2, 3, 1)}, r"train: channels stand last; got \[40, 6, 5, 3\]; next: transpose"),
        ({"y_train": np.eye(40, dtype=int)}, r"train: labels have the wrong rank; got \[40, 40\]"),
        ({"y_train": np.zeros(39, int)}, "train has 40 images and 39 labels"),
        ({"y_train": np.zeros(40)}, "train: labels of the wrong type; got float64"),
        ({"y_train": np.full(40, -1)}, "train: a label is negative; got -1"),
        ({"y_train": np.zeros(40, int), "y_test": np.zeros(8, int)}, "fewer than two classes; got 1"),
        ({"y_test": np.full(8, 4)}, "set.npz: a label is too large; got 4 in test; allowed: 0 to 3, as in train"),
        ({"x_test": X[:8, :, 1:]}, r"images of different shapes; got \[3, 5, 5\] in test, \[3, 6, 5\] in train"),
        ({"x_test": X[:8] / 255}, "pixels of different types; got float32 in test, uint8 in train"),
        ({"x_train": np.where(np.arange(5) == 3, np.nan, X)}, "train: image 0 holds NaN or infinity"),
        ({"x_test": np.full((8, 3, 6, 5), np.inf)}, "test: image 0 holds NaN or infinity"),
        ({"x_train": X.astype(int) + 1}, "train: integer pixels beyond a byte; got int64 1 to 256"),
        ({"x_train": X.astype(complex)}, "train: pixels of the wrong type; got complex128"),
        ({"x_train": X[:, :0]}, "train: images without pixels"),
        ({"x_test": X[:0], "y_test": np.zeros(0, int)}, "test holds no image"),
        ({"x_train": np.array([None, {}])}, "set.npz: x_train cannot be read .*no Python objects"),
    ],
)
def test_an_archive_that_does_not_fit_is_refused_in_one_line(tmp_path, changes, message):
    with pytest.raises(DataError, match=message) as caught:
        load(tmp_path, **changes)
    assert "\n" not in str(caught.value)


def test_one_bad_image_is_named_among_many(tmp_path):
    x = np.zeros((40, 3, 6, 5))
    x[17, 2, 5, 4] = np.nan
    with pytest.raises(DataError, match="train: image 17 holds NaN"):
        load(tmp_path, x_train=x)


@pytest.mark.parametrize("keep", [0, 3, 100, 2000])
def test_a_truncated_or_foreign_file_is_refused(tmp_path, keep):
    path = tmp_path / "set.npz"
    np.savez(path, **arrays())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"set.npz cannot be read"):
        load_dataset(DataSettings(source="set.npz"), base=tmp_path, seed=0)
    path.write_text("not an archive at all")
    with pytest.raises(DataError, match=r"set.npz cannot be read"):
        load_dataset(DataSettings(source="set.npz"), base=tmp_path, seed=0)


def test_damaged_bytes_inside_are_found(tmp_path):
    path = tmp_path / "set.npz"
    np.savez_compressed(path, **arrays())
    data = bytearray(path.read_bytes())
    data[300:320] = bytes(20)
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"set.npz: x_train cannot be read"):
        load_dataset(DataSettings(source="set.npz"), base=tmp_path, seed=0)


def test_a_single_array_is_no_archive(tmp_path):
    with (tmp_path / "set.npz").open("wb") as file:
        np.save(file, X)
    with pytest.raises(DataError, match="is a single array, not an archive"):
        load_dataset(DataSettings(source="set.npz"), base=tmp_path, seed=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mean": [0.5]}, r"\[data\] mean needs one number a channel; got \[0.5\]; allowed: 3 numbers"),
        ({"std": [1.0, 0.0, 1.0]}, r"\[data\] std must be positive"),
        ({"image_size": 32}, r"\[data\] image_size; got 32; allowed: .*; next: leave it out"),
        ({"validation": 0.01}, r"\[data\] validation holds out no image; got 0.01 of 40 images; next: raise it"),
    ],
)
def test_settings_that_do_not_fit_the_images_are_refused(tmp_path, settings, message):
    with pytest.raises(DataError, match=message):
        load(tmp_path, settings=settings)


def test_a_source_that_is_nothing_suggests(tmp_path):
    with pytest.raises(DataError, match=r"source 'cifar10' is neither .*did you mean 'cifar-10'\?.*COMPRESS_DATA"):
        load_dataset(DataSettings(source="cifar10"), base=tmp_path, seed=0)
    (tmp_path / "x.csv").write_text("1")
    with pytest.raises(DataError, match=r"x.csv is neither; got .csv; allowed: a folder of images, an .npz"):
        load_dataset(DataSettings(source="x.csv"), base=tmp_path, seed=0)
