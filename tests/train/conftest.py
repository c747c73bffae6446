"""A tiny data set that can be learnt, and a tiny network that learns it."""

import numpy as np
import pytest
import torch
from torch import nn

from compress.data.base import Dataset, Split
from compress.recipe import TrainSettings


class FakeSplit(Split):
    """Images whose brightest quarter is their class, with noise."""

    def __init__(self, count, seed, classes=4):
        rng = np.random.default_rng(seed)
        self.labels = np.arange(count, dtype=np.int64) % classes
        self.images = rng.normal(0, 0.3, (count, 1, 4, 4)).astype(np.float32)
        for image, label in zip(self.images, self.labels, strict=True):
            image[0, label] += 1
        self.sizes = []

    def __len__(self):
        return len(self.labels)

    def batches(self, batch_size, *, rng=None, augment=None):
        order = np.arange(len(self)) if rng is None else rng.permutation(len(self))
        self.sizes = []
        for start in range(0, len(self), batch_size):
            chosen = order[start : start + batch_size]
            images = self.images[chosen]
            if augment is not None:
                images = images + rng.normal(0, 0.1, images.shape).astype(np.float32)
            self.sizes.append(len(chosen))
            yield images, self.labels[chosen]

    def take(self, count, rng):
        raise NotImplementedError


class TinyNet(nn.Module):
    """Convolution, BatchNorm, dropout, linear: everything whose state an interruption could lose."""

    def __init__(self, width=8, classes=4):
        super().__init__()
        self.conv = nn.Conv2d(1, width, 3, padding=1)
        self.bn = nn.BatchNorm2d(width)
        self.drop = nn.Dropout(0.1)
        self.linear = nn.Linear(width * 16, classes)

    def forward(self, x):
        x = self.drop(torch.relu(self.bn(self.conv(x))))
        return self.linear(x.flatten(1))


@pytest.fixture
def dataset():
    return Dataset("fake", FakeSplit(40, 0), FakeSplit(16, 1), FakeSplit(16, 2), 4, (1, 4, 4))


@pytest.fixture
def make_dataset():
    def make(train=40, validation=16):
        return Dataset("fake", FakeSplit(train, 0), FakeSplit(validation, 1), FakeSplit(16, 2), 4, (1, 4, 4))

    return make


@pytest.fixture
def make_model():
    def make(seed=0, **arguments):
        torch.manual_seed(seed)
        return TinyNet(**arguments)

    return make


@pytest.fixture
def settings():
    return TrainSettings(epochs=3, batch_size=8, learning_rate=0.05, device="cpu")
