import numpy as np
import onnx
import pytest
import torch
from torch import nn

from compress.errors import NetworkError
from compress.export import export
from compress.onnx_io.session import session
from compress.recipe import ExportSettings
from compress.torch_graph import to_onnx

SHAPE = (2, 4, 4)


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 5))


def test_what_is_written_computes_what_torch_computes(tmp_path):
    network = small().eval()
    result = export(network, SHAPE, tmp_path / "a.onnx")
    images = torch.randn(3, *SHAPE)
    with torch.inference_mode():
        expected = network(images).numpy()
    found = session(result.path).run(None, {"input": images.numpy()})[0]
    assert np.abs(found - expected).max() <= 1e-5
    assert result.file_bytes == result.path.stat().st_size
    assert 0 <= result.max_abs_diff <= 1e-5


def test_names_stay_and_nothing_else_is_written(tmp_path):
    network = small()
    export(network, SHAPE, tmp_path / "a.onnx")
    model = onnx.load(tmp_path / "a.onnx")
    names = {name for name, _ in network.state_dict().items() if "num_batches" not in name}
    assert names <= {tensor.name for tensor in model.graph.initializer}
    assert model.ir_version <= 10
    assert not model.metadata_props
    assert not model.graph.value_info
    assert not any(node.doc_string or node.metadata_props for node in model.graph.node)
    onnx.checker.check_model(model, full_check=True)


@pytest.mark.parametrize(("dynamic", "batch"), [(True, None), (False, 1)])
def test_the_batch_axis_is_free_or_one(tmp_path, dynamic, batch):
    settings = ExportSettings(dynamic_batch=dynamic, opset=18)
    model = onnx.load(export(small(), SHAPE, tmp_path / "a.onnx", settings).path)
    for value in (model.graph.input[0], model.graph.output[0]):
        first = value.type.tensor_type.shape.dim[0]
        assert (first.dim_value if first.HasField("dim_value") else None) == batch
    assert next(entry.version for entry in model.opset_import if entry.domain == "") == 18


def test_each_module_keeps_its_own_mode(tmp_path):
    network = small().train()
    network[1].eval()
    statistics = network[1].running_mean.clone()
    export(network, SHAPE, tmp_path / "a.onnx")
    assert [module.training for module in network] == [True, False, True, True, True]
    assert torch.equal(network[1].running_mean, statistics)


class Branching(nn.Module):
    def forward(self, x):
        return x * 2 if x.sum() > 0 else x


CALLS = []


class Stateful(nn.Module):
    """Computes something else at every call, as a Python branch on anything outside of the graph does."""

    def forward(self, x):
        CALLS.append(None)
        return x * len(CALLS)


class Pair(nn.Module):
    def forward(self, x):
        return x, x


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Branching(), "cannot be exported"),
        (Stateful(), "does not compute what the torch network computes"),
        (Pair(), "must return one tensor; got a tuple"),
    ],
    ids=["branch", "state", "pair"],
)
def test_a_network_that_a_graph_cannot_hold_is_refused_and_nothing_written(tmp_path, network, message):
    with pytest.raises(NetworkError, match=message) as caught:
        export(network, SHAPE, tmp_path / "a.onnx")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_to_onnx_keeps_every_name():
    network = small()
    held = {tensor.name for tensor in to_onnx(network, SHAPE).graph.initializer}
    assert {name for name, _ in network.named_parameters()} <= held
