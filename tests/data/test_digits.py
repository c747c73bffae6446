"""The built-in digits, where sets are looked for, and how little an import costs."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from compress.data import data_roots, datasets, load_dataset
from compress.recipe import DataSettings


def test_digits_have_one_fixed_test_split():
    sets = [load_dataset(DataSettings(source="digits"), base=Path(), seed=seed) for seed in (0, 1)]
    first, second = sets
    assert (len(first.train), len(first.validation), len(first.test)) == (1294, 144, 359)
    assert (first.classes, first.input_shape) == (10, (1, 8, 8))
    assert first.test.images.tobytes() == second.test.images.tobytes()
    assert first.validation.images.tobytes() != second.validation.images.tobytes()
    assert set(np.unique(first.train.images)) == set(np.rint(np.arange(17) * 255 / 16).astype(int))
    # The split is part of every published figure: it may not drift with a version of anything.
    digest = hashlib.sha256(first.test.images.tobytes() + first.test.labels.astype("<i8").tobytes()).hexdigest()
    assert digest == "7bfb15b0f65ccc2facc877ded481d19e1a094a65d72755473484a2d819634bf8"
    shares = np.bincount(first.test.labels) / np.bincount(
        np.concatenate([s.labels for s in (first.train, first.validation, first.test)])
    )
    np.testing.assert_allclose(shares, 0.2, atol=0.006)
    x, _ = next(first.train.batches(1294))
    assert abs(x.mean()) < 0.02
    assert abs(x.std() - 1) < 0.02


def test_no_image_of_the_digits_is_in_two_splits():
    data = load_dataset(DataSettings(source="digits", validation=0.2), base=Path(), seed=3)
    sets = [{image.tobytes() for image in s.images} for s in (data.train, data.validation, data.test)]
    assert not sets[0] & sets[1]
    assert not sets[0] & sets[2]
    assert not sets[1] & sets[2]


def test_roots_come_in_the_promised_order(tmp_path, monkeypatch):
    base = tmp_path / "recipes"
    assert data_roots(base) == [tmp_path / "data", base, base / "data"]
    monkeypatch.setenv("COMPRESS_DATA", str(tmp_path / "sets"))
    assert data_roots(base) == [tmp_path / "sets", tmp_path / "data", base, base / "data"]
    assert data_roots(tmp_path) == [tmp_path / "sets", tmp_path / "data", tmp_path]


def test_every_set_is_registered():
    assert datasets.names() == [
        "cifar-10",
        "cifar-100",
        "digits",
        "fashion-mnist",
        "mnist",
        "stl-10",
        "tiny-imagenet-200",
    ]


def test_the_package_is_light():
    code = "import sys, compress.data; compress.data.datasets.names(); "
    code += "print([m for m in ('torch', 'sklearn', 'PIL', 'onnx', 'scipy') if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert result.stdout.strip() == "[]"
