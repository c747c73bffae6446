"""The vectorised augmentations against slow references that follow the papers pixel by pixel."""

import numpy as np
import pytest

from compress.data.augment import Augment, augmented
from compress.recipe import DataSettings


def images(seed=0, shape=(40, 3, 9, 7)):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def slow_crop(x, padding, top, left):
    _, H, W = x.shape
    out = np.zeros_like(x)
    for row in range(H):
        for column in range(W):
            y0, x0 = row + top - padding, column + left - padding
            if 0 <= y0 < H and 0 <= x0 < W:
                out[:, row, column] = x[:, y0, x0]
    return out


def slow_cutout(x, size, row, column):
    out = x.copy()
    for y in range(row - size // 2, row - size // 2 + size):
        for z in range(column - size // 2, column - size // 2 + size):
            if 0 <= y < x.shape[1] and 0 <= z < x.shape[2]:
                out[:, y, z] = 0
    return out


@pytest.mark.parametrize("padding", [1, 2, 4])
def test_each_crop_is_one_window_of_the_padded_image_and_every_window_occurs(padding):
    x = images(shape=(600, 2, 5, 4))
    out = augmented(x.copy(), Augment(("crop",), crop_padding=padding), np.random.default_rng(1))
    seen = set()
    for before, after in zip(x, out, strict=True):
        places = [
            (top, left)
            for top in range(2 * padding + 1)
            for left in range(2 * padding + 1)
            if np.array_equal(slow_crop(before, padding, top, left), after)
        ]
        assert places
        seen.update(places)
    # The outermost windows of a padding of 4 hold no pixel of a 5×4 image, so they cannot be told apart.
    assert len(seen) == (2 * padding + 1) ** 2
    assert out.dtype == np.float32
    assert out.flags.c_contiguous


def test_a_crop_draws_tops_then_lefts():
    x = images()
    out = augmented(x.copy(), Augment(("crop",), crop_padding=3), np.random.default_rng(5))
    rng = np.random.default_rng(5)
    tops, lefts = rng.integers(0, 7, size=len(x)), rng.integers(0, 7, size=len(x))
    expected = [slow_crop(*values) for values in zip(x, [3] * len(x), tops, lefts, strict=True)]
    np.testing.assert_array_equal(out, expected)


def test_flip_mirrors_about_half_of_the_images_and_leaves_the_others():
    x = images(shape=(1000, 3, 4, 5))
    out = augmented(x.copy(), Augment(("flip",)), np.random.default_rng(2))
    mirrored = np.array([np.array_equal(a, b[:, :, ::-1]) for a, b in zip(x, out, strict=True)])
    same = np.array([np.array_equal(a, b) for a, b in zip(x, out, strict=True)])
    assert (mirrored ^ same).all()
    assert 430 < mirrored.sum() < 570


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 30])
def test_cutout_blanks_one_square_around_any_centre_clipped_at_the_border(size):
    x = images(shape=(400, 3, 6, 5))
    out = augmented(x.copy(), Augment(("cutout",), cutout_size=size), np.random.default_rng(3))
    areas = set()
    for before, after in zip(x, out, strict=True):
        assert any(
            np.array_equal(slow_cutout(before, size, row, column), after) for row in range(6) for column in range(5)
        )
        areas.add(int((after == 0).all(axis=0).sum()))
    assert max(areas) == min(size, 6) * min(size, 5)
    assert (min(areas) < max(areas)) == (1 < size < 30)


def test_kinds_apply_in_the_order_given():
    x = images()
    crop_first = augmented(x.copy(), Augment(("crop", "cutout"), 2, 3), np.random.default_rng(0))
    rng = np.random.default_rng(0)
    step = augmented(x.copy(), Augment(("crop",), 2, 3), rng)
    step = augmented(step, Augment(("cutout",), 2, 3), rng)
    np.testing.assert_array_equal(crop_first, step)
    cutout_first = augmented(x.copy(), Augment(("cutout", "crop"), 2, 3), np.random.default_rng(0))
    assert not np.array_equal(crop_first, cutout_first)


def test_the_recipe_decides_everything():
    settings = DataSettings(source="digits", augment=["flip", "crop"], crop_padding=2, cutout_size=5)
    assert Augment.from_settings(settings) == Augment(("flip", "crop"), 2, 5)


def test_no_kind_changes_nothing():
    x = images()
    np.testing.assert_array_equal(augmented(x.copy(), Augment(), np.random.default_rng(0)), x)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="unknown augmentation 'mixup'"):
        augmented(images(), Augment(("mixup",)), np.random.default_rng(0))
