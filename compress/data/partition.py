"""Holding out a stratified share of labelled images: each class gives the same share, to within one image."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from compress.data.split import Images, Labels

Indices = npt.NDArray[np.int64]


def stratified(labels: Labels, share: float, priority: Indices) -> tuple[Indices, Indices]:
    """Splits indices into kept and held out.

    Of n images, round(n · share) are held out; a class of n_c gives floor(n_c · share) and the rest falls to the
    classes with the largest remainders. Each class keeps at least one image, so classes of
    one image, or a share above ½, may bring the total below that.

    Args:
        labels: int64 [N].
        share: 0…1.
        priority: [N], distinct; the lowest of each class are held out.

    Returns:
        Kept and held-out indices, both ascending.
    """
    _, members = np.unique(labels, return_inverse=True)
    sizes = np.bincount(members)
    counts = np.minimum(np.floor(sizes * share).astype(np.int64), sizes - 1)
    missing = round(len(labels) * share) - int(counts.sum())
    for group in np.argsort(counts - sizes * share, kind="stable"):
        if missing > 0 and counts[group] < sizes[group] - 1:
            counts[group] += 1
            missing -= 1
    held = np.zeros(len(labels), bool)
    for group, count in enumerate(counts):
        inside = np.flatnonzero(members == group)
        held[inside[np.argsort(priority[inside])[:count]]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def by_seed(count: int, seed: int) -> Indices:
    """Returns a priority that a seed decides."""
    return np.random.default_rng(seed).permutation(count)


def by_content(images: Images) -> Indices:
    """Returns a priority that the pixels alone decide.

    The same on every machine, with every version of NumPy, whatever the order of the images; equal images stand side by
    side, so a copy of a test image is not trained on unless the cut falls between them.
    """
    digests = [hashlib.sha256(np.ascontiguousarray(image).tobytes()).digest() for image in images]
    priority = np.empty(len(images), np.int64)
    priority[sorted(range(len(images)), key=lambda index: digests[index])] = np.arange(len(images))
    return priority
