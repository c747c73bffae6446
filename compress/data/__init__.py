"""Images and labels: named sets, folders, archives, the user's own loaders. NumPy only."""

from compress.data.base import ArraySplit, Augment, Dataset, LoaderSplit, Split
from compress.data.load import load_dataset
from compress.data.sources import data_roots, datasets

__all__ = [
    "ArraySplit",
    "Augment",
    "Dataset",
    "LoaderSplit",
    "Split",
    "data_roots",
    "datasets",
    "load_dataset",
]
