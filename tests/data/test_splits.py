"""Splits in memory and from a user's stream: batches, normalisation, chance, errors."""

import numpy as np
import pytest

from compress.data import ArraySplit, Augment, LoaderSplit
from compress.errors import DataError

MEAN, STD = (0.4, 0.5), (0.2, 0.3)


def arrays(count=23, seed=0, dtype=np.uint8):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, size=(count, 2, 5, 4)).astype(np.uint8)
    if dtype == np.float32:
        x = (x / 255).astype(np.float32)
    return x, np.arange(count, dtype=np.int64)


def array_split(**kwargs):
    x, y = arrays(**kwargs)
    return ArraySplit(x, y, MEAN, STD)


class Stream:
    """An iterable of batches that starts anew each time and counts how often."""

    def __init__(self, batches):
        self.all = batches
        self.passes = 0

    def __iter__(self):
        self.passes += 1
        yield from self.all


def stream_split(sizes=(5, 1, 9, 8), **kwargs):
    x, y = arrays(sum(sizes))
    stops = np.cumsum(sizes)[:-1]
    return LoaderSplit(
        Stream(list(zip(np.split(x, stops), np.split(y, stops), strict=True))), mean=MEAN, std=STD, **kwargs
    )


def drained(split, *args, **kwargs):
    batches = list(split.batches(*args, **kwargs))
    return (
        [len(y) for _, y in batches],
        np.concatenate([x for x, _ in batches]),
        np.concatenate([y for _, y in batches]),
    )


SPLITS = pytest.mark.parametrize("make", [array_split, stream_split])


@SPLITS
def test_in_order_every_image_comes_once_normalised_per_channel(make):
    sizes, x, y = drained(make(), 10)
    raw, labels = arrays()
    expected = (raw.astype(np.float64) / 255 - np.reshape(MEAN, (2, 1, 1))) / np.reshape(STD, (2, 1, 1))
    assert sizes == [10, 10, 3]
    assert x.dtype == np.float32
    assert y.dtype == np.int64
    np.testing.assert_allclose(x, expected, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(y, labels)
    assert len(make()) == 23


def test_float_images_are_on_the_scale_of_mean_and_std():
    x = drained(array_split(dtype=np.float32), 7)[1]
    np.testing.assert_allclose(x, drained(array_split(), 7)[1], rtol=0, atol=1e-6)


@SPLITS
def test_rng_shuffles_and_decides_everything(make):
    augment = Augment(("crop", "flip", "cutout"), 1, 2)
    runs = [drained(make(), 6, rng=np.random.default_rng(seed), augment=augment) for seed in (7, 7, 8)]
    np.testing.assert_array_equal(runs[0][1], runs[1][1])
    np.testing.assert_array_equal(runs[0][2], runs[1][2])
    assert not np.array_equal(runs[0][2], runs[2][2])
    assert not np.array_equal(runs[0][2], arrays()[1])
    assert sorted(runs[0][2]) == list(range(23))
    assert runs[0][0] == [6, 6, 6, 5]


@SPLITS
def test_images_and_labels_stay_together_when_shuffled(make):
    _, x, y = drained(make(), 6, rng=np.random.default_rng(1))
    np.testing.assert_array_equal(x, drained(make(), 6)[1][y])


@SPLITS
def test_augment_without_rng_is_refused(make):
    with pytest.raises(ValueError, match="augment needs rng"):
        next(make().batches(4, augment=Augment(("flip",))))


@SPLITS
def test_a_batch_is_the_callers_to_overwrite(make):
    split = make()
    before = drained(split, 4)
    for x, y in split.batches(4):
        x[:] = 9
        y[:] = 9
    after = drained(split, 4)
    np.testing.assert_array_equal(before[1], after[1])
    np.testing.assert_array_equal(before[2], after[2])


@SPLITS
def test_take_gives_a_random_subset_that_stays(make):
    split = make()
    subset = split.take(9, np.random.default_rng(3))
    _, x, y = drained(subset, 4)
    assert len(subset) == len(set(y.tolist())) == 9
    np.testing.assert_array_equal(x, drained(split, 4)[1][y])
    np.testing.assert_array_equal(y, drained(subset, 4)[2])
    np.testing.assert_array_equal(y, drained(make().take(9, np.random.default_rng(3)), 4)[2])
    assert set(y.tolist()) != set(drained(make().take(9, np.random.default_rng(4)), 4)[2].tolist())
    assert len(split.take(1000, np.random.default_rng(3))) == 23
    assert len(split.take(0, np.random.default_rng(3))) == 0


def test_bytes_stay_bytes_in_memory():
    split = array_split()
    list(split.batches(8))
    assert split.images.dtype == np.uint8
    assert split.take(5, np.random.default_rng(0)).images.dtype == np.uint8


def test_an_empty_split_has_no_batch():
    x, y = arrays()
    assert list(ArraySplit(x[:0], y[:0], MEAN, STD).batches(4)) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x[0], y, MEAN, STD), "images have the wrong shape or type"),
        (lambda x, y: (x.astype(float), y, MEAN, STD), "images have the wrong shape or type"),
        (lambda x, y: (x, y[1:], MEAN, STD), "labels have the wrong shape or type"),
        (lambda x, y: (x, y.astype(np.int32), MEAN, STD), "labels have the wrong shape or type"),
        (lambda x, y: (x, y, MEAN[:1], STD), "one value a channel"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change, message):
    with pytest.raises(DataError, match=message):
        ArraySplit(*change(*arrays()))


def test_a_stream_is_kept_nowhere_and_read_anew_for_each_pass():
    split = stream_split()
    drained(split, 4)
    drained(split, 4)
    assert split._source.passes == 2


@pytest.mark.parametrize("size", [1, 4, 5, 23, 100])
def test_any_batch_size_gives_the_same_images(size):
    sizes, x, _ = drained(stream_split(), size)
    assert set(sizes[:-1]) <= {size}
    np.testing.assert_array_equal(x, drained(stream_split(), 7)[1])


def test_a_stream_without_mean_and_std_is_taken_as_it_comes():
    x = arrays(dtype=np.float32)[0] * 5 - 2
    split = LoaderSplit([(x, np.zeros(23, int))])
    np.testing.assert_array_equal(drained(split, 8)[1], x)
    split = LoaderSplit([(arrays()[0], np.zeros(23, int))])
    np.testing.assert_allclose(drained(split, 8)[1], arrays()[0] / 255, atol=1e-7)


def test_a_torch_loader_is_understood():
    torch = pytest.importorskip("torch")
    x, y = arrays(dtype=np.float32)
    data = torch.utils.data.TensorDataset(torch.from_numpy(x).requires_grad_(), torch.from_numpy(y))
    split = LoaderSplit(torch.utils.data.DataLoader(data, batch_size=4), classes=23)
    sizes, got, labels = drained(split, 10)
    assert sizes == [10, 10, 3]
    np.testing.assert_array_equal(got, x)
    np.testing.assert_array_equal(labels, y)
    assert split.input_shape == (2, 5, 4)
    bfloat16 = LoaderSplit([(torch.zeros(2, 1, 4, 4, dtype=torch.bfloat16), torch.zeros(2, dtype=torch.int64))])
    with pytest.raises(DataError, match="batch 0: Tensor is not an array"):
        len(bfloat16)


X = np.zeros((3, 1, 8, 8), np.float32)
Y = np.array([0, 1, 2])


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "delivers no image"),
        ([(X[:0], Y[:0])], "delivers no image"),
        ([X], r"batch 0 is not a pair \(x, y\); got ndarray"),
        ([(X, Y), (X, Y[1:])], "batch 1 has 3 images and 2 labels"),
        ([(X, Y), (X[:, :, 1:], Y)], r"batch 1: image shape changes; got \[1, 7, 8\]; allowed: \[1, 8, 8\]"),
        ([(X, Y), (X.astype(np.uint8), Y)], "batch 1: pixel type changes; got uint8; allowed: float32"),
        ([(X * np.nan, Y)], "batch 0: image 0 holds NaN or infinity"),
        ([(X[0, 0], Y)], r"wrong rank; got \[8, 8\]"),
        ([(X.transpose(0, 2, 3, 1), Y)], "channels stand last"),
        ([(X.astype(np.int64) - 1, Y)], "integer pixels beyond a byte; got int64 -1 to -1"),
        ([(X > 0, Y)], "pixels of the wrong type; got bool"),
        ([("no", Y)], "pixels of the wrong|images have the wrong rank"),
        ([(np.array([None]), Y)], "Python objects"),
        ([(X, Y.astype(float))], "labels of the wrong type; got float64"),
        ([(X, np.eye(3, dtype=int))], "class indices, not one-hot rows"),
        ([(X, Y - 1)], "a label is negative; got -1"),
        ([(X, Y + 1)], "a label is too large; got 3; allowed: 0 to 2"),
        ([([[1, 2], [3]], Y)], "list is not an array"),
    ],
)
def test_a_stream_that_delivers_something_else_is_refused_in_one_line(batches, message):
    with pytest.raises(DataError, match=message) as caught:
        list(LoaderSplit(batches, where="data.py:loaders train", classes=3).batches(2))
    assert str(caught.value).startswith("data.py:loaders train")
    assert "\n" not in str(caught.value)


def test_an_iterator_is_refused_because_it_ends():
    with pytest.raises(DataError, match="can be read only once; got generator"):
        LoaderSplit(x for x in [(X, Y)])
    with pytest.raises(DataError, match="not an iterable of batches; got int"):
        LoaderSplit(3)


def test_a_failure_inside_the_users_iterable_is_one_line():
    class Broken:
        def __iter__(self):
            yield X, Y
            raise RuntimeError("disk\ngone")

    with pytest.raises(DataError, match="fails while it delivers: RuntimeError: disk gone"):
        len(LoaderSplit(Broken()))


def test_a_stream_in_class_order_is_mixed_within_a_window():
    x = np.zeros((2000, 1, 1, 1), np.uint8)
    split = LoaderSplit([(x, np.full(2000, label)) for label in range(4)])
    first = next(split.batches(64, rng=np.random.default_rng(0)))[1]
    assert len(set(first.tolist())) == 4
