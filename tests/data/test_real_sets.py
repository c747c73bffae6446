"""The real CIFAR-10 and MNIST, where COMPRESS_DATA names a folder that holds them."""

from pathlib import Path

import numpy as np
import pytest

from compress.data import load_dataset
from compress.data.assemble import channel_statistics
from compress.recipe import DataSettings


def real(name, root):
    if not (Path(root) / name).is_dir():
        pytest.skip(f"COMPRESS_DATA holds no {name}/")
    return load_dataset(DataSettings(source=name), base=Path(), seed=0)


@pytest.mark.parametrize(
    ("name", "shape", "sizes"),
    [("cifar-10", (3, 32, 32), (45000, 5000, 10000)), ("mnist", (1, 28, 28), (54000, 6000, 10000))],
)
def test_sizes_classes_and_constants(name, shape, sizes, real_root):
    data = real(name, real_root)
    assert (data.classes, data.input_shape) == (10, shape)
    assert (len(data.train), len(data.validation), len(data.test)) == sizes
    both = np.concatenate([data.train.images, data.validation.images])
    mean, std = channel_statistics(both)
    np.testing.assert_allclose(mean, data.train.mean, atol=2e-4)
    np.testing.assert_allclose(std, data.train.std, atol=2e-4)
    shares = np.bincount(data.validation.labels) / (
        np.bincount(data.validation.labels) + np.bincount(data.train.labels)
    )
    np.testing.assert_allclose(shares, 0.1, atol=2e-4)


def test_cifar_10_has_as_many_images_of_each_class(real_root):
    data = real("cifar-10", real_root)
    assert np.bincount(data.test.labels).tolist() == [1000] * 10
    assert np.bincount(data.train.labels).tolist() == [4500] * 10
    assert data.train.images.dtype == np.uint8


def test_the_first_digits_of_mnist_are_the_known_ones(real_root):
    data = real("mnist", real_root)
    assert data.test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
