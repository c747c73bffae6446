"""Stratified hold-out: sizes, shares of classes, determinism."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.data.partition import by_content, by_seed, stratified


@given(
    labels=st.lists(st.integers(0, 6), min_size=1, max_size=200), share=st.floats(0, 0.99), seed=st.integers(0, 2**32)
)
def test_every_index_is_on_one_side_and_each_class_gives_its_share(labels, share, seed):
    labels = np.array(labels, np.int64)
    kept, held = stratified(labels, share, by_seed(len(labels), seed))
    assert sorted([*kept, *held]) == list(range(len(labels)))
    assert (np.diff(kept) > 0).all()
    assert (np.diff(held) > 0).all()
    for label in np.unique(labels):
        size, given_up = (labels == label).sum(), (labels[held] == label).sum()
        assert given_up < size
        assert abs(given_up - size * share) <= 1
    assert len(held) <= round(len(labels) * share)
    if share <= 0.5 and np.unique(labels, return_counts=True)[1].min() > 1:
        assert len(held) == round(len(labels) * share)


def test_the_total_is_the_rounded_share():
    labels = np.repeat(np.arange(10), 25)
    _, held = stratified(labels, 0.1, by_seed(250, 0))
    assert len(held) == 25
    assert np.bincount(labels[held]).tolist() == [3] * 5 + [2] * 5
    # Equal remainders go to the lower classes, with any number of classes.
    labels = np.repeat(np.arange(100), np.tile([5, 4], 50))  # remainders 0.5 and 0.4; 45 images in all
    held = labels[stratified(labels, 0.1, by_seed(450, 0))[1]]
    assert sorted(held.tolist()) == list(range(0, 90, 2))


def test_the_lowest_priorities_are_held_out():
    labels = np.array([0, 1, 0, 1, 0, 1])
    kept, held = stratified(labels, 1 / 3, np.array([5, 4, 3, 2, 1, 0]))
    assert held.tolist() == [4, 5]
    assert kept.tolist() == [0, 1, 2, 3]


def test_a_seed_decides():
    labels = np.repeat(np.arange(4), 50)
    first, again, other = (stratified(labels, 0.2, by_seed(200, seed))[1] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_priority_by_content_follows_the_image_not_its_place():
    images = np.random.default_rng(0).integers(0, 256, (50, 1, 3, 3)).astype(np.uint8)
    order = np.random.default_rng(1).permutation(50)
    np.testing.assert_array_equal(by_content(images)[order], by_content(images[order]))
    digests = [hashlib.sha256(image.tobytes()).hexdigest() for image in images]
    assert [digests[i] for i in np.argsort(by_content(images))] == sorted(digests)


def test_copies_of_an_image_stand_side_by_side():
    images = np.random.default_rng(0).integers(0, 256, (20, 1, 3, 3)).astype(np.uint8)
    images[17] = images[2]
    priority = by_content(images)
    assert priority[17] == priority[2] + 1


@pytest.mark.parametrize("share", [0.0, 0.004])
def test_a_tiny_share_holds_out_nothing(share):
    assert not stratified(np.repeat([0, 1], 50), share, by_seed(100, 0))[1].size
