"""Every registered network, and the building of one from its specification."""

import copy
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from compress.architectures import NetworkSpec, build_network, networks
from compress.architectures.resnet_cifar import CifarResNet, PaddedShortcut
from compress.channels.plan import Plan
from compress.errors import CompressError, NetworkError
from compress.prune.treatments import Survivors
from compress.prune.treatments.from_scratch import FromScratch

INPUT_SHAPES = {"lenet-300-100": (1, 28, 28), "lenet-5-caffe": (1, 28, 28), "alexnet": (3, 64, 64)}

# From the papers, or counted by hand from their tables.
PARAMETERS = {
    ("resnet20", "{}"): 269_722,
    ("resnet32", "{}"): 464_154,
    ("resnet44", "{}"): 658_586,
    ("resnet56", "{}"): 853_018,
    ("resnet110", "{}"): 1_727_962,
    # Two projections: 16·32 + 2·32 and 32·64 + 2·64.
    ("resnet20", '{"shortcut": "B"}'): 269_722 + 576 + 2_176,
    # Width 4: 3·4·9 + 8, six 3×3 of (4,4), then (4,8)+5×(8,8), (8,16)+5×(16,16), BatchNorms, 170 of the classifier.
    ("resnet20", '{"width": 4}'): 116 + 6 * 152 + (304 + 5 * 592) + (1_184 + 5 * 2_336) + 170,
    # The forms for CIFAR-10 of these networks, as their authors and torchvision count them.
    ("resnet18", "{}"): 11_173_962,
    ("resnet34", "{}"): 21_282_122,
    ("resnet50", "{}"): 23_520_842,
    ("resnet101", "{}"): 42_512_970,
    ("alexnet", "{}"): 57_044_810,
    ("squeezenet1.1", "{}"): 722_496 + 5_130,
    ("mobilenetv2", "{}"): 2_236_682,
    ("shufflenetv2", "{}"): 2_278_604 - 1_025_000 + 10_250,
    # 12 layers a block: 3×3 convolutions of 12 from 16, 28, … channels and their BatchNorms, two transitions.
    ("densenet40", "{}"): 432
    + sum(9 * 12 * c + 2 * c for start in (16, 160, 304) for c in range(start, start + 144, 12))
    + (160 * 160 + 320)
    + (304 * 304 + 608)
    + 896
    + 4_490,
    # 65 tokens of 192: patches 48·192 + 192, token, positions; each block 4·(192² + 192) + 2·4·192² + 960 + 4·192.
    ("vit-tiny", "{}"): 9_408 + 192 + 65 * 192 + 12 * (4 * 37_056 + 2 * 4 * 36_864 + 960 + 768) + 384 + 1_930,
    ("lenet-300-100", "{}"): 266_610,
    ("lenet-5-caffe", "{}"): 431_080,
    ("vgg14-bn", "{}"): 14_710_464 + 2 * 4_224 + 5_130,
    ("vgg16-bn", "{}"): 14_710_464 + 2 * 4_224 + (512 * 512 + 512 + 1_024) + 5_130,
    # The thesis, tables 4.2 and 4.3: 20.4K, 857.5K, 869.1K; STL-10: 40.8K, 445.8K.
    ("planting-cnn", "{}"): 20_362,
    ("planting-cnn", '{"channels": [128, 128, 128, 128, 128]}'): 857_482,
    ("planting-cnn", '{"channels": [128, 128, 128, 128, 128], "classes": 100}'): 869_092,
    ("planting-cnn", '{"pool_after": [1, 2, 3, 5], "image_size": [96, 96]}'): 40_842,
}


def spec_of(network, arguments=None, input_shape=None, base=Path()):
    return NetworkSpec(network, arguments or {}, input_shape or INPUT_SHAPES.get(network, (3, 32, 32)), base)


@pytest.mark.parametrize("network", networks.names())
def test_every_network_maps_images_to_logits_and_takes_what_the_data_say(network):
    channels, side = 2, 64
    model = build_network(spec_of(network, {"classes": 7, "in_channels": channels}, (channels, side, side)))
    assert model.training
    model.eval()
    assert model(torch.randn(3, channels, side, side)).shape == (3, 7)


@pytest.mark.parametrize("network", networks.names())
def test_every_network_gives_a_gradient_to_every_parameter(network):
    model = build_network(spec_of(network))
    model(torch.randn(4, *spec_of(network).input_shape)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("network", networks.names())
def test_the_same_seed_gives_the_same_weights(network):
    torch.manual_seed(1)
    first = build_network(spec_of(network)).state_dict()
    torch.manual_seed(1)
    second = build_network(spec_of(network)).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(("network", "arguments"), PARAMETERS)
def test_parameter_counts_are_the_literatures(network, arguments):
    shape = (3, 96, 96) if "96" in arguments else None
    model = build_network(spec_of(network, json.loads(arguments), shape))
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[network, arguments]


def test_vgg_width_and_hidden_layers_change_the_network():
    thin = build_network(spec_of("vgg16-bn", {"width": 4}))
    deep = build_network(spec_of("vgg16-bn", {"width": 4, "hidden": [32, 16]}))
    assert [layer.out_features for layer in thin.classifier if isinstance(layer, nn.Linear)] == [32, 10]
    assert [layer.out_features for layer in deep.classifier if isinstance(layer, nn.Linear)] == [32, 16, 10]


def test_convolutions_start_with_he_variance():
    torch.manual_seed(0)
    weight = build_network(spec_of("resnet20")).layer3[1].conv2.weight
    assert weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)


def test_padded_shortcut_pads_before_and_after():
    shortcut = PaddedShortcut(1, 2, 2)
    x = torch.arange(2 * 3 * 5 * 4, dtype=torch.float32).reshape(2, 3, 5, 4)
    y = shortcut(x)
    assert y.shape == (2, 6, 3, 2)
    assert torch.equal(y[:, 1:4], x[:, :, ::2, ::2])
    assert not y[:, 0].any()
    assert not y[:, 4:].any()
    assert not shortcut.state_dict()


def test_padded_shortcut_follows_a_slice_of_its_buffers():
    model = build_network(spec_of("resnet20"))
    shortcut = model.layer2[0].shortcut
    assert (shortcut.low.shape[1], shortcut.high.shape[1]) == (8, 8)
    shortcut.low = shortcut.low[:, :3]
    assert shortcut(torch.ones(1, 16, 4, 4)).shape == (1, 27, 2, 2)


def test_spec_survives_json():
    spec = spec_of("net.py:build", {"width": 3}, (1, 8, 8), Path("models/mine"))
    assert NetworkSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    registered = spec_of("resnet20", base=Path("anywhere"))
    assert "anywhere" not in json.dumps(registered.to_dict())


@pytest.mark.parametrize("described", [{}, {"network": "resnet20", "arguments": {}, "input_shape": 3}, {"network": 1}])
def test_a_broken_description_is_refused(described):
    with pytest.raises(NetworkError, match="description of a network"):
        NetworkSpec.from_dict(described)


@pytest.mark.parametrize(
    ("network", "arguments", "shape", "message"),
    [
        ("resnet_20", {}, None, "did you mean 'resnet20'"),
        ("resnet20", {"widht": 8}, None, "no argument 'widht'; next: did you mean 'width'"),
        ("resnet20", {"width": 0}, None, "argument 'width'.*whole numbers from 1"),
        ("resnet20", {"width": "16"}, None, "argument 'width'"),
        ("resnet20", {"shortcut": "C"}, None, "allowed: 'A', 'B'"),
        ("resnet20", {"in_channels": 1}, None, r"cannot take images of shape \[3, 32, 32\]"),
        ("lenet-5-caffe", {}, (1, 8, 8), "16 pixels"),
        ("lenet-5-caffe", {"channels": [20]}, None, "two numbers"),
        ("lenet-300-100", {"hidden": [1, 2, 3]}, None, "two numbers"),
        ("lenet-300-100", {"hidden": None}, None, "argument 'hidden'"),
        ("vgg16-bn", {}, (3, 8, 8), "16 pixels"),
        ("planting-cnn", {"pool_after": [1, 6]}, None, "from 1 to 5"),
        ("planting-cnn", {"channels": []}, None, "one number or more"),
        ("planting-cnn", {}, (3, 4, 4), "8 pixels and more with 3 pools"),
    ],
)
def test_bad_arguments_are_named_in_one_line(network, arguments, shape, message):
    with pytest.raises(CompressError, match=message) as caught:
        build_network(spec_of(network, arguments, shape))
    assert "\n" not in str(caught.value)


USER_FILE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, classes, width=4):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3)
        self.linear = nn.Linear(width, classes)
    def forward(self, x):
        return self.linear(self.conv(x).mean((2, 3)))

def fixed():
    return Net(10)

def wrong():
    return "a network"

def flat():
    return nn.Conv2d(3, 4, 3)

def broken():
    return nn.Linear(undefined, 3)

instance = Net(10)
number = 3
"""


@pytest.fixture
def user_folder(tmp_path):
    (tmp_path / "net.py").write_text(USER_FILE)
    return tmp_path


def test_a_users_factory_gets_what_it_takes(user_folder):
    arguments = {"classes": 10, "in_channels": 3, "width": 6}
    model = build_network(spec_of("net.py:Net", arguments, base=user_folder))
    assert model.conv.out_channels == 6
    build_network(spec_of("net.py:fixed", {"classes": 10, "in_channels": 3}, base=user_folder))


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("fixed", {"classes": 5}, "gives 10 classes, the data have 5"),
        ("fixed", {"width": 5}, "no argument 'width'"),
        ("Net", {}, "missing a required argument: 'classes'"),
        ("wrong", {}, "must return a torch.nn.Module; got a str"),
        ("flat", {}, r"logits \[N, classes\]; got shape \[2, 4, 30, 30\]"),
        ("broken", {}, "NameError"),
        ("instance", {}, "not a function"),
        ("number", {}, "not a function"),
        ("absent", {}, "has no 'absent'"),
    ],
)
def test_a_users_mistake_is_named_in_one_line(user_folder, name, arguments, message):
    with pytest.raises(CompressError, match=message) as caught:
        build_network(spec_of(f"net.py:{name}", arguments, base=user_folder))
    assert "\n" not in str(caught.value)


def test_no_forward_depends_on_the_number_of_channels():
    model = CifarResNet(1, 10, 3, 8, "A")
    block = model.layer1[0]
    block.conv1.weight = nn.Parameter(block.conv1.weight[:5])
    for name in ("weight", "bias", "running_mean", "running_var"):
        value = getattr(block.bn1, name)[:5]
        setattr(block.bn1, name, nn.Parameter(value) if name in ("weight", "bias") else value)
    block.conv2.weight = nn.Parameter(block.conv2.weight[:, :5])
    assert model.eval()(torch.zeros(2, 3, 16, 16)).shape == (2, 10)


@pytest.mark.parametrize("network", networks.names())
def test_a_network_that_starts_from_scratch_starts_as_a_new_one(network):
    torch.manual_seed(0)
    new = build_network(spec_of(network))
    again = copy.deepcopy(new)
    with torch.no_grad():
        for parameter in again.parameters():
            parameter.fill_(7.0)
    FromScratch().prepare(Survivors(again, Plan(), None, 1))
    for (name, before), after in zip(new.named_parameters(), again.parameters(), strict=True):
        if before.numel() >= 200 and before.std() > 0:
            assert after.std().item() == pytest.approx(before.std().item(), rel=0.25), name
            assert not torch.equal(before, after)
        elif before.std() == 0:
            torch.testing.assert_close(before, after, msg=name)
