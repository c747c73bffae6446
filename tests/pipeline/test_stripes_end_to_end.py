"""Parts of kernels that a method takes are not computed in the file: from the recipe to fewer multiply-accumulates."""

import json

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from compress.onnx_io.cost import onnx_cost
from compress.onnx_io.session import session
from compress.recipe import RewriteSettings
from compress.rewrite import rewrite

SKELETON = '{ name = "filter-skeleton", strength = 1e-3 }'


def stage(project, name):
    stages = json.loads((project.run_folder / "manifest.json").read_text())["stages"]
    return next(one for one in stages if one["name"] == name)["figures"]


def without_quantization(project, prune, stripes):
    project.change("width=6", "width=32", "net.py")
    project.change('method = "filter-l1"\nratio = 0.5', prune)
    project.change("[quantize]", f'[rewrite]\nstripes = "{stripes}"\n[quantize]\nformat = "none"')


def exported_and_rewritten(project):
    """Returns both files, after comparing their outputs on the test images."""
    before, after = onnx.load(project.run_folder / "exported.onnx"), onnx.load(project.model)
    with np.load("small.npz") as arrays:
        images = arrays["x_test"].astype(np.float32)
    first, second = (
        session(m.SerializeToString()).run(None, {m.graph.input[0].name: images})[0] for m in (before, after)
    )
    np.testing.assert_allclose(second, first, rtol=1e-4, atol=1e-4)
    return before, after


def kernels_with_zeros(model, axis):
    """Returns the shares of stripes (axis 1) or columns (axis 0) of zeros in the 3×3 kernels."""
    weights = [numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    return [float((~weight.any(axis=axis)).mean()) for weight in weights if weight.shape[2:] == (3, 3)]


@pytest.mark.parametrize(("part", "axis", "regularizer"), [("stripe", 1, SKELETON), ("shape", 0, None)])
def test_parts_of_kernels_that_go_are_not_computed(project, part, axis, regularizer):
    prune = f'method = "magnitude"\nratio = 0.7\nof = "parameters"\noptions = {{ part = "{part}" }}'
    without_quantization(project, prune, "always")
    if regularizer:
        project.change("epochs = 3\n", f"epochs = 3\nregularizer = {regularizer}\n")
    project.run()
    before, after = exported_and_rewritten(project)
    assert max(kernels_with_zeros(before, axis)) > 0.6
    figures = stage(project, "rewrite")["rewritten"]
    assert figures["macs_after"] == onnx_cost(after).macs < 0.6 * onnx_cost(before).macs
    assert any("computed as" in note for note in figures["notes"])
    assert figures["file_bytes_after"] < figures["file_bytes_before"]
    assert figures["macs_after"] < 0.8 * rewrite(before, RewriteSettings(stripes="never")).macs_after
