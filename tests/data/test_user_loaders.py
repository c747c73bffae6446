"""The user's own `path.py:loaders`: arrays, lists of batches, streams; and what goes wrong in other people's code."""

import numpy as np
import pytest

from compress.data import ArraySplit, LoaderSplit, load_dataset
from compress.errors import CompressError, DataError
from compress.recipe import DataSettings

HEAD = """
import numpy as np

class Stream:
    def __init__(self, batches):
        self.batches = batches
    def __iter__(self):
        return iter(self.batches)

def images(count, start=0):
    return ((np.arange(start, start + count)[:, None, None, None] % 256) * np.ones((1, 2, 5, 6))).astype(np.uint8)

def labels(count):
    return np.arange(count) % 3

def pair(count, start=0):
    return images(count, start), labels(count)

def batches(count, start=0, size=7):
    x, y = pair(count, start)
    return [(x[i:i + size] / np.float32(255), y[i:i + size]) for i in range(0, count, size)]

"""


def load(folder, body, **settings):
    (folder / "data.py").write_text(HEAD + "def loaders():\n    " + body.replace("\n", "\n    ") + "\n")
    return load_dataset(DataSettings(source="data.py:loaders", **settings), base=folder, seed=0)


def drained(split, size=10, **kwargs):
    found = list(split.batches(size, **kwargs))
    return np.concatenate([x for x, _ in found]), np.concatenate([y for _, y in found])


@pytest.mark.parametrize(
    "body",
    [
        "return pair(30), None, pair(9, 100)",
        "return {'train': pair(30), 'test': pair(9, 100)}",
        "return {'train': pair(30), 'validation': None, 'test': list(pair(9, 100)), 'classes': 3}",
    ],
)
def test_pairs_of_arrays_are_split_and_normalised_as_an_archive_is(tmp_path, body):
    data = load(tmp_path, body, validation=0.2)
    assert (len(data.train), len(data.validation), len(data.test)) == (24, 6, 9)
    assert (data.classes, data.input_shape, data.name) == (3, (2, 5, 6), "data.py:loaders")
    assert isinstance(data.train, ArraySplit)
    x, _ = drained(data.train)
    np.testing.assert_allclose([x.mean(), x.std()], [0, 1], atol=1e-4)


def test_lists_of_batches_are_gathered_so_that_they_can_be_split_and_shuffled(tmp_path):
    data = load(tmp_path, "return batches(30), None, batches(9, 100)")
    assert isinstance(data.train, ArraySplit)
    assert (len(data.train), len(data.validation), len(data.test)) == (27, 3, 9)


def test_a_list_of_two_batches_is_not_taken_for_a_pair_of_arrays(tmp_path):
    data = load(tmp_path, "return batches(14), None, batches(14)")
    assert len(data.train) + len(data.validation) == 14


def test_streams_are_taken_as_the_network_sees_them(tmp_path):
    data = load(tmp_path, "return Stream(batches(30)), Stream(batches(6)), Stream(batches(9, 100))")
    assert isinstance(data.train, LoaderSplit)
    assert (len(data.train), len(data.validation), len(data.test)) == (30, 6, 9)
    assert (data.classes, data.input_shape) == (3, (2, 5, 6))
    x, y = drained(data.test)
    np.testing.assert_allclose(x[:, 0, 0, 0], np.arange(100, 109) / 255, atol=1e-6)
    assert y.tolist() == [0, 1, 2] * 3


def test_arrays_beside_a_stream_are_on_the_same_scale_as_the_stream(tmp_path):
    data = load(tmp_path, "return Stream(batches(30)), pair(6), batches(9, 100)")
    for split, start in ((data.train, 0), (data.validation, 0), (data.test, 100)):
        x, _ = drained(split)
        np.testing.assert_allclose(x[:, 1, 2, 3], np.arange(start, start + len(split)) / 255, atol=1e-6)


def test_mean_and_std_of_the_recipe_apply_to_streams(tmp_path):
    body = "return Stream(batches(30)), pair(6), batches(9, 100)"
    data = load(tmp_path, body, mean=[0.5, 0.25], std=[0.5, 2.0])
    for split, start in ((data.train, 0), (data.validation, 0), (data.test, 100)):
        values = np.arange(start, start + len(split)) / 255
        np.testing.assert_allclose(drained(split)[0][:, 1, 0, 0], (values - 0.25) / 2, atol=1e-6)


def test_a_torch_data_loader_runs_through(tmp_path):
    pytest.importorskip("torch")
    body = """
import torch
from torch.utils.data import DataLoader, TensorDataset
def loader(count):
    x, y = pair(count)
    return DataLoader(TensorDataset(torch.from_numpy(x).float() / 255, torch.from_numpy(y)), batch_size=4)
return {"train": loader(30), "validation": loader(6), "test": loader(9)}"""
    data = load(tmp_path, body)
    assert (len(data.train), data.classes) == (30, 3)
    x, y = drained(data.train, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(np.rint(x[:, 0, 0, 0] * 255).astype(int) % 3, y)
    assert isinstance(data.train.take(5, np.random.default_rng(0)), ArraySplit)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return 3", "returns something else; got int; allowed: a mapping"),
        ("return pair(30), pair(9)", "returns something else; got tuple"),
        ("return {'train': pair(30)}", "returns the wrong keys; got train; allowed"),
        (
            "return {'train': pair(30), 'test': pair(9), 'valid': pair(9)}",
            "returns the wrong keys; got train, test, valid",
        ),
        ("return {'train': pair(30), 'test': pair(9), 'classes': '3'}", "classes; got 3; allowed: an integer"),
        ("return {'train': pair(30), 'test': pair(9), 'classes': 2}", "a label is too large; got 2 in train"),
        ("return {'train': Stream(batches(30)), 'test': pair(9)}", "no validation part; a stream cannot be split"),
        ("return Stream(batches(30)), pair(6), (x for x in batches(9))", "test can be read only once; got generator"),
        ("return images(30), None, images(9)", "train is a single array; allowed: \\(images, labels"),
        ("return 7, None, pair(9)", "train is not an iterable of batches; got int"),
        ("return (images(30), labels(29)), None, pair(9)", "train has 30 images and 29 labels"),
        ("return Stream([]), pair(6), pair(9)", "train delivers no image"),
        (
            "return Stream(batches(30)), pair(6), (images(9)[:, :1], labels(9))",
            r"different shapes; got \[1, 5, 6\] in test",
        ),
        ("return Stream([(images(9), labels(9) * 0)]), pair(6), pair(9)", "fewer than two classes; got 1"),
        ("return 1 / 0, None, None", r"data.py:\d+: ZeroDivisionError: division by zero; next: mend the function"),
    ],
)
def test_what_a_function_may_not_return(tmp_path, body, message):
    with pytest.raises(DataError, match=message) as caught:
        load(tmp_path, body)
    assert str(caught.value).startswith("data.py:loaders")
    assert "\n" not in str(caught.value)


def test_labels_of_a_later_part_are_checked_against_the_classes_of_train(tmp_path):
    data = load(tmp_path, "return Stream(batches(30)), pair(6), Stream([pair(3), (images(2), np.array([0, 3]))])")
    with pytest.raises(DataError, match="test, batch 1: a label is too large; got 3; allowed: 0 to 2"):
        drained(data.test)


def test_settings_that_do_not_fit_are_refused(tmp_path):
    streams = "return Stream(batches(30)), pair(6), pair(9)"
    with pytest.raises(DataError, match=r"mean needs one number a channel; got \[0.5\]; allowed: 2"):
        load(tmp_path, streams, mean=[0.5])
    with pytest.raises(DataError, match="image_size is for folders of images"):
        load(tmp_path, streams, image_size=5)


def test_the_reference_itself_may_be_wrong(tmp_path):
    (tmp_path / "data.py").write_text("number = 3\ndef loaders(path): pass\n")
    for source, message in (
        ("data.py:number", "is not a function; got int"),
        ("data.py:loaders", "must need no arguments .*path.*; next: give them defaults"),
        ("data.py:loader", "did you mean 'loaders'"),
        ("date.py:loaders", "does not exist"),
    ):
        with pytest.raises(CompressError, match=message):
            load_dataset(DataSettings(source=source), base=tmp_path, seed=0)
