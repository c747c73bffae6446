"""Deep compression from the recipe to the packed file: pruned weights, trained shared values, Huffman codes."""

import json

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from safetensors.numpy import load_file

from compress.coding.verb import pack_file, unpack_file
from compress.errors import RecipeError
from compress.prune import WeightMask


def test_deep_compression_from_the_cut_to_the_packed_file(project, tmp_path):
    project.change('method = "filter-l1"\nratio = 0.5', 'method = "magnitude"\nratio = 0.6\nof = "parameters"')
    project.change(
        "[quantize]", '[share]\nepochs = 1\nconv_bits = 4\nlinear_bits = 3\n[quantize]\nformat = "deep-compression"'
    )
    project.run()
    held = WeightMask.load(project.run_folder / "compact_held.safetensors").held
    shared = load_file(project.run_folder / "shared.safetensors")
    for name, keep in held.items():
        assert not shared[name][~keep].any()
        assert len(np.unique(shared[name][shared[name] != 0])) <= (16 if shared[name].ndim == 4 else 8)
    stored = {t.name: numpy_helper.to_array(t) for t in onnx.load(project.model).graph.initializer}
    # 2^bits values are fewer than the format's own default: it leaves what was trained as it is.
    sizes = [array for array in stored.values() if array.ndim == 4]
    assert sizes
    assert all(len(np.unique(array[array != 0])) <= 16 for array in sizes)
    stages = {s["name"]: s["figures"] for s in json.loads((project.run_folder / "manifest.json").read_text())["stages"]}
    assert all(layer["relative_error"] == 0 for layer in stages["quantize"]["details"]["layers"])
    report = json.loads((project.run_folder / "report.json").read_text())
    assert {"shared", "deep-compression"} <= {row["stage"] for row in report["accuracies"]}
    packed = pack_file(project.model, tmp_path / "model.packed")
    assert unpack_file(tmp_path / "model.packed", tmp_path / "model.onnx") == project.model.stat().st_size
    assert (tmp_path / "model.onnx").read_bytes() == project.model.read_bytes()
    assert len(packed.data) < project.model.stat().st_size


def test_shared_values_are_trained_alone(fresh):
    fresh.change("[quantize]", '[share]\nregularizer = { name = "l1" }\n[quantize]')
    with pytest.raises(RecipeError, match=r"share: shared values are trained by the labels alone"):
        fresh.run()
