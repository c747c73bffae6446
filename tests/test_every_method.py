"""Every method of the catalogue goes from a recipe to a checked file: trained, cut, retrained, exported, rewritten.

A run takes a method of each kind, so that each registered one is in at least one run, found without being listed. What
does not depend on the method is done once: the first training, the graph of a network of certain sizes, the clock.
"""

import copy
import dataclasses
import itertools
import json
import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from onnx import numpy_helper
from sklearn.datasets import load_digits
from test_parity import SETTINGS
from typer.testing import CliRunner

from compress.architectures import networks
from compress.cli.app import app
from compress.onnx_io.session import session
from compress.pipeline import deploying
from compress.pipeline.context import RunContext, Silence
from compress.pipeline.run import run_stages
from compress.prune.criteria import WeightCriterion, criteria
from compress.prune.regularizers import regularizers
from compress.prune.schedules import schedules
from compress.prune.search import searches
from compress.prune.treatments import treatments
from compress.quantize.format import formats
from compress.recipe import Recipe, validate
from compress.train.checkpoint import load_checkpoint
from compress.train.distill import KINDS

CATALOGUE = {
    "regularizer": "l2 l1 group-lasso sparse-group-lasso exclusive cges group-l12 hsqrt-gl hsqrt-es hsqrt-gl12 hsq-gl "
    "hsq-es hsq-gl12 shsqrt-gl shsqrt-es shsqrt-gl12 shsq-gl shsq-es shsq-gl12 oicsr ssl-filter ssl-channel ssl-shape "
    "ssl-depth slimming sss l0 increg group-brain-damage filter-skeleton dropout dropconnect admm",
    "criterion": "random magnitude filter-l1 filter-l2 fpgm fpgm-mix bn-scale apoz hrank thinet lasso-channel "
    "activity-variance taylor taylor-2 nisp pfa obd obs snip loss-increase crelu-redundancy",
    "schedule": "one-shot iterative gradual soft before-training",
    "treatment of weights": "rewind from-scratch fine-tune",
    "distillation": "kl logits mutual",
    "search": "backward-selection epruning planting genetic acp",
    "format": "deep-compression int8 fp16 int8-dynamic low-rank",
}

NET = """
from torch import nn


class Net(nn.Module):
    def __init__(self, classes, in_channels):
        super().__init__()
        self.stem, self.stem_norm = nn.Conv2d(in_channels, 6, 3, 2, 1, bias=False), nn.BatchNorm2d(6)
        self.first, self.norm = nn.Conv2d(6, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.second, self.second_norm = nn.Conv2d(8, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.hidden, self.hidden_norm = nn.Linear(24, 8, bias=False), nn.BatchNorm1d(8)
        self.out = nn.Linear(8, classes)

    def forward(self, x):
        x = self.stem_norm(self.stem(x)).relu()
        x = (x + self.second_norm(self.second(self.norm(self.first(x)).relu()))).relu()
        return self.out(self.hidden_norm(self.hidden(nn.functional.max_pool2d(x, 2).flatten(1))).relu())


def build(classes=10, in_channels=1):
    return Net(classes, in_channels)
"""

TOLERANCE = 1e-5
# The least work that still is the method, by the name of the knob.
SMALL = {"particles": 2, "cycles": 1, "population": 4, "generations": 2, "initial": 2, "planted": 2, "rounds": 2}
# Networks take their time; test_parity cuts, exports and rewrites each. Here all of them run where this is set.
NETWORKS = sorted(networks) if "COMPRESS_EVERY_NETWORK" in os.environ else ["lenet-5-caffe", "planting-cnn", "resnet8"]


def test_the_catalogue_is_registered_and_described():
    found = json.loads(CliRunner().invoke(app, ["methods", "--json"]).stdout)
    listed = {(method["kind"], method["id"]) for method in found}
    wanted = {(kind, name) for kind, names in CATALOGUE.items() for name in names.split()}
    assert wanted <= listed, sorted(wanted - listed)
    # A method of a new kind would be in no run.
    assert {kind for kind, _ in listed} == set(CATALOGUE)
    assert {name for row in rows() for name in row.values() if name} == {name for _, name in listed}
    assert all(method["summary"] and method["source"] for method in found if (method["kind"], method["id"]) in wanted)


def options(method):
    """Returns the knobs of a method that make it short."""
    whole = [field.name for field in dataclasses.fields(method) if type(field.default) is int]
    return {
        name: 1 if name.endswith("epochs") else SMALL[name]
        for name in whole
        if name.endswith("epochs") or name in SMALL
    }


def rows():
    """Returns recipes' choices, each kind's methods in turn until the longest list is through."""
    chosen = [*criteria, *searches]
    kinds = [list(regularizers), chosen, list(schedules), list(treatments), [None, *sorted(KINDS)], list(formats)]
    count = max(map(len, kinds))
    found = [list(itertools.islice(itertools.cycle(names), count)) for names in kinds]
    return [
        dict(zip(("regularizer", "method", "schedule", "treatment", "distill", "format"), row, strict=True))
        for row in zip(*found, strict=True)
    ]


def recipe_of(row):
    method = (criteria if row["method"] in criteria else searches).get(row["method"])
    alone = issubclass(method, WeightCriterion)
    training = {"epochs": 1, "batch_size": 50, "learning_rate": 0.02, "device": "cpu"}
    penalty = regularizers.get(row["regularizer"])
    regularizer = {"name": row["regularizer"], "options": options(penalty)}
    if penalty.uses_strength:
        regularizer["strength"] = 1e-3
    distill = {"distill": {"kind": row["distill"]}} if row["distill"] else {}
    return {
        "model": {"network": "net.py:build"},
        "data": {"source": "small.npz"},
        "train": {**training, "epochs": 2},
        "sparsify": {**training, "regularizer": regularizer},
        "prune": {
            "method": row["method"],
            "ratio": 0.4,
            "of": "parameters" if alone else "macs",
            "samples": 16,
            "options": options(method),
            "schedule": {"name": row["schedule"], "options": options(schedules.get(row["schedule"]))},
        },
        "retrain": {**training, "weights": row["treatment"], **distill},
        "quantize": {"format": row["format"], "samples": 16},
        "profile": {"blocks": 1, "runs": 1, "warmup": 0},
    }


def context_of(folder, recipe):
    return RunContext(validate(recipe, Recipe, "recipe"), folder, folder / "run", "run", folder / "export", Silence())


def write_data(folder, shape, count):
    digits = load_digits()
    images = digits.images[: count + 50].astype(np.float32) / 16
    scale = -(-shape[1] // 8)
    images = np.kron(images, np.ones((scale, scale), dtype=np.float32))[:, None, : shape[1], : shape[2]]
    images, labels = np.repeat(images, shape[0], axis=1), digits.target[: count + 50]
    arrays = {"x_train": images[:count], "y_train": labels[:count], "x_test": images[count:], "y_test": labels[count:]}
    np.savez(folder / "small.npz", **arrays)
    (folder / "budget.toml").write_text("file_bytes = 20_000_000\naccuracy_drop = 100\n")
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a network whose first training is done."""
    folder = write_data(tmp_path_factory.mktemp("trained"), (1, 8, 8), 200)
    (folder / "net.py").write_text(NET)
    run_stages(context_of(folder, recipe_of(rows()[0])), until="train")
    return folder


@pytest.fixture(scope="module", autouse=True)
def once():
    """Does once what is the same in many runs: layers of the same sizes make the same graph, and no clock matters.

    The graph gets each network's own weights by name; `export` holds its outputs against torch's, as always.
    """
    models, reports = {}, {}
    export, profile = torch.onnx.export, deploying.profile

    def exported(network, example, **settings):
        key = (repr(network), example[0].shape, repr(settings))
        if key not in models:
            models[key] = export(network, example, **settings).model_proto
        model = copy.deepcopy(models[key])
        state = dict(network.named_parameters(remove_duplicate=False)) | dict(network.named_buffers())
        for tensor in model.graph.initializer:
            if tensor.name in state:
                tensor.CopyFrom(numpy_helper.from_array(state[tensor.name].detach().numpy(), tensor.name))
        return SimpleNamespace(model_proto=model)

    def timed(files, *arguments, **settings):
        if len(files) not in reports:
            reports[len(files)] = profile(files, *arguments, **settings)
        return reports[len(files)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.onnx, "export", exported)
        patch.setattr(deploying, "profile", timed)
        yield


def outputs(folder, images):
    """Returns what each stage's network says of some images."""
    found = {}
    for name in ("pruned", "compact", "retrained"):
        with torch.inference_mode():
            found[name] = load_checkpoint(folder / f"{name}.safetensors").model.eval()(torch.from_numpy(images)).numpy()
    for name in ("exported", "rewritten"):
        found[name] = session((folder / f"{name}.onnx").read_bytes()).run(None, {"input": images})[0]
    return found


def check_run(folder, records):
    """Asserts what every run must show."""
    figures = {record.name: record.figures for record in records}
    assert figures["check"]["passed"] is True
    before, after = (figures["prune"][key]["parameters"] for key in ("cost_before", "cost_after"))
    assert after < before
    images = np.load(folder / "small.npz")["x_test"][:16]
    found = outputs(folder / "run", images)
    for one, other in (("pruned", "compact"), ("retrained", "exported"), ("exported", "rewritten")):
        scale = max(1.0, float(np.abs(found[one]).max()))
        assert np.abs(found[one] - found[other]).max() <= TOLERANCE * scale, (one, other)
    assert np.ptp(found["retrained"], axis=0).max() > 0, "an output of nothing would prove nothing"
    return figures


@pytest.mark.parametrize("row", rows(), ids=lambda row: " ".join(str(name) for name in row.values()))
def test_from_recipe_to_checked_file(row, trained, tmp_path):
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    figures = check_run(tmp_path, run_stages(context_of(tmp_path, recipe_of(row)), until="check"))
    method = (criteria if row["method"] in criteria else searches).get(row["method"])
    sizes = [figures["rewrite"][name]["params_after"] for name in ("before", "rewritten")]
    assert sizes[1] <= sizes[0] if issubclass(method, WeightCriterion) else sizes[1] < sizes[0]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_goes_from_recipe_to_checked_file(name, tmp_path):
    arguments, shape = SETTINGS[name]
    write_data(tmp_path, shape, 60)
    recipe = recipe_of(rows()[0]) | {"model": {"network": name, "arguments": arguments}}
    training = {"epochs": 1, "batch_size": 27, "learning_rate": 0.01, "device": "cpu"}
    recipe |= {"train": training, "sparsify": None, "retrain": training, "prune": {"method": "filter-l1", "ratio": 0.3}}
    figures = check_run(tmp_path, run_stages(context_of(tmp_path, recipe), until="check"))
    assert figures["rewrite"]["rewritten"]["macs_after"] < figures["rewrite"]["before"]["macs_after"]
