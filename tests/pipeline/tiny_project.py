"""A user's own tiny network on the user's own archive, as a folder with a recipe."""

from pathlib import Path

import numpy as np
from recorder import Recorder
from sklearn.datasets import load_digits

from compress.artifact import sha256_file
from compress.pipeline import run

NET = """
from torch import nn


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x):
        return x + self.second(self.norm(self.first(x)).relu())


def build(classes=10, width=6, in_channels=1):
    pooled = [nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(nn.Conv2d(in_channels, width, 3, padding=1), Block(width), *pooled, nn.Linear(width, classes))
"""

RECIPE = """
seed = 1
[model]
network = "net.py:build"
[data]
source = "small.npz"
[train]
epochs = 3
batch_size = 32
[prune]
method = "filter-l1"
ratio = 0.5
[retrain]
epochs = 1
batch_size = 32
[quantize]
samples = 16
[profile]
blocks = 2
runs = 2
warmup = 1
"""

BUDGET = "file_bytes = 80_000\naccuracy_drop = 100\n"


class Project:
    """A folder with a recipe, its run and its export."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.recipe = folder / "recipe.toml"
        self.run_folder = folder / "runs" / folder.name
        self.model = folder / "export" / folder.name / "model.onnx"

    def change(self, old, new, file="recipe.toml"):
        text = (self.folder / file).read_text()
        assert text.count(old) == 1, text
        (self.folder / file).write_text(text.replace(old, new))

    def run(self, recipe="recipe.toml"):
        recorder = Recorder()
        run(Path(recipe), reporter=recorder)
        return recorder

    def hashes(self):
        return {path.name: sha256_file(path) for path in self.run_folder.iterdir() if path.name != "manifest.json"}

    def times(self):
        return {str(path): path.stat().st_mtime_ns for path in self.folder.rglob("*")}


def write_project(folder: Path) -> Path:
    digits = load_digits()
    images, labels = digits.images.astype(np.float32) / 16, digits.target
    arrays = {"x_train": images[:300], "y_train": labels[:300], "x_test": images[300:400], "y_test": labels[300:400]}
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "small.npz", **{key: a[:, None] if a.ndim == 3 else a for key, a in arrays.items()})
    (folder / "net.py").write_text(NET)
    (folder / "recipe.toml").write_text(RECIPE)
    (folder / "budget.toml").write_text(BUDGET)
    return folder
