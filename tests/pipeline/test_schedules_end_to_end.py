"""Cuts before the training, single weights, and rewound weights, from the recipe to the file."""

import json
import shutil

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from safetensors.numpy import load_file

from compress.prune import WeightMask

WEIGHTS = 'method = "magnitude"\nratio = 0.6\nof = "parameters"'


def figures(project, name):
    stages = json.loads((project.run_folder / "manifest.json").read_text())["stages"]
    return next(stage for stage in stages if stage["name"] == name)["figures"]


def method(project, text):
    project.change('method = "filter-l1"\nratio = 0.5', text)


@pytest.mark.parametrize("schedule", ["one-shot", "gradual"])
def test_single_weights_stay_zero_from_the_cut_to_the_file(project, schedule):
    options = "{ epochs = 2 }" if schedule == "gradual" else "{}"
    method(project, f'{WEIGHTS}\nschedule = {{ name = "{schedule}", options = {options} }}')
    project.change("[quantize]", '[quantize]\nformat = "none"')
    project.run()
    held = WeightMask.load(project.run_folder / "compact_held.safetensors").held
    weights = load_file(project.run_folder / "retrained.safetensors")
    before = load_file(project.run_folder / "pruned.safetensors")
    for name, keep in held.items():
        assert 0.59 <= (~keep).mean() <= 0.61
        assert not weights[name][~keep].any()
        assert (weights[name][keep] != before[name][keep]).all()
    zeros = sum(int((~keep).sum()) for keep in held.values())
    file = onnx.load(project.model)
    arrays = [numpy_helper.to_array(tensor) for tensor in file.graph.initializer]
    in_weights = sum(int((array == 0).sum()) for array in arrays if array.ndim > 1)
    assert in_weights >= 0.9 * zeros
    cost = figures(project, "prune")
    assert cost["cost_after"]["parameters"] == cost["cost_before"]["parameters"] - zeros


def test_a_method_of_channels_after_one_of_weights_leaves_no_mask_behind(project):
    method(project, WEIGHTS)
    project.run()
    project.change(WEIGHTS, 'method = "filter-l1"\nratio = 0.5')
    project.run()
    assert not list(project.run_folder.glob("*held*"))


def test_the_phases_of_filters_reach_the_report(project):
    method(project, 'method = "crelu-redundancy"\nratio = 0.4')
    project.run()
    assert [layer["layer"] for layer in figures(project, "prune")["phases"]] == ["0", "1.first", "1.second"]
    report = json.loads((project.run_folder / "report.json").read_text())
    assert report["phases"] == figures(project, "prune")["phases"]
    assert all("phases" not in stage["figures"] for stage in report["stages"])
    assert 'id="plot-phases"' in (project.run_folder / "report.html").read_text()


def test_pruned_before_training_it_starts_from_the_initial_weights(project):
    method(project, 'method = "filter-l1"\nratio = 0.5\nschedule = { name = "before-training" }')
    project.run()
    initial = load_file(project.run_folder / "initial.safetensors")
    pruned = load_file(project.run_folder / "pruned.safetensors")
    trained = load_file(project.run_folder / "trained.safetensors")
    name = "1.first.weight"
    kept = pruned[name] != 0
    assert kept.any()
    assert not kept.all()
    assert (pruned[name][kept] == initial[name][kept]).all()
    assert not np.array_equal(initial[name], trained[name])


@pytest.mark.parametrize("epochs", [0, 2])
def test_rewound_weights_are_those_of_that_epoch(project, epochs):
    project.change("[retrain]\nepochs = 1", f'[retrain]\nepochs = 0\nweights = "rewind"\nrewind_epochs = {epochs}')
    project.run()
    plan = json.loads((project.run_folder / "plan.json").read_text())["keep"]
    initial = load_file(project.run_folder / "initial.safetensors")
    after = load_file(project.run_folder / "retrained.safetensors")
    name = "1.first.weight"
    rows, columns = (plan[name].get(axis, list(range(initial[name].shape[int(axis)]))) for axis in "01")
    assert (after[name] == initial[name][rows][:, columns]).all()
    trained = load_file(project.run_folder / "trained.safetensors")
    assert not np.array_equal(initial[name], trained[name])


def test_rewinding_without_a_training_is_refused_before_anything_runs(project):
    shutil.copy(project.run_folder / "trained.safetensors", project.folder / "there.safetensors")
    project.change("[train]\nepochs = 3\nbatch_size = 32\n", "")
    project.change('network = "net.py:build"', 'network = "net.py:build"\ncheckpoint = "there.safetensors"')
    project.change("[retrain]", '[retrain]\nweights = "rewind"')
    with pytest.raises(Exception, match=r"initial weights are not known.*give \[train\]"):
        project.run()
