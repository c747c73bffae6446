"""Small networks, one for each way in which channels are coupled: at full width, at half width, and with half dead.

A *site* is a set of channels that stand or fall together, whichever layers produce them: a residual stream is one site.
Every layer that produces channels says of which sites they are, so that a mask over the sites can be applied to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import torch
from onnx import ModelProto, numpy_helper
from torch import nn

from compress.onnx_io.metadata import strip_metadata
from compress.torch_graph import to_onnx

IMAGE = (3, 16, 16)
TOKENS = (16, 24)
CLASSES = 10
IR_VERSION = 10  # the newest that a runtime of two years ago takes
HEADS, HEAD_DIM = 4, 16

Dead = dict[str, np.ndarray]


@dataclass
class Widths:
    """How many channels each site has, and which layers produce them.

    Attributes:
        half: whether each site has half of its channels.
        extra: so many channels more a part, where `half`.
        sites: name → (channels, equal parts of which each loses half: groups, heads).
    """

    half: bool = False
    extra: int = 0
    sites: dict[str, tuple[int, int]] = field(default_factory=dict)

    def site(self, name: str, full: int, parts: int = 1) -> int:
        size = full // 2 + self.extra * parts if self.half else full
        self.sites[name] = (size, parts)
        return size


def made(module: nn.Module, *sites: str, order: Callable[[np.ndarray], np.ndarray] = lambda x: x) -> nn.Module:
    """Says of which sites a module's output channels are, one after the other, or in another `order`."""
    module.rows = lambda dead: order(np.concatenate([dead[site] for site in sites]))
    return module


def gate(module: nn.Module, site: str) -> nn.Module:
    """Says that a module produces factors of a site's channels: a dead channel may have a living one."""
    module.is_gate = True
    return made(module, site)


def conv(
    inputs: int, outputs: int, kernel: int, site: str, *, stride=1, groups=1, order=lambda x: x
) -> list[nn.Module]:
    """Returns a convolution without bias and its normalization."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [made(layer, site, order=order), made(nn.BatchNorm2d(outputs), site, order=order)]


def head(channels: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES)]


class Residual(nn.Module):
    """shortcut(x) + body(x), then perhaps an activation."""

    def __init__(self, body: Iterable[nn.Module], shortcut: Iterable[nn.Module] = (), after: nn.Module | None = None):
        super().__init__()
        self.body, self.shortcut = nn.Sequential(*body), nn.Sequential(*shortcut)
        self.after = after or nn.Identity()

    def forward(self, x):
        return self.after(self.shortcut(x) + self.body(x))


def plain(w: Widths) -> nn.Module:
    sizes = [3, *(w.site(f"c{i}", full) for i, full in enumerate((32, 64, 64)))]
    layers: list[nn.Module] = []
    for i in range(3):
        layers += [made(nn.Conv2d(sizes[i], sizes[i + 1], 3, padding=1), f"c{i}"), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if i else []
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * sizes[3], CLASSES))


def resnet(w: Widths) -> nn.Module:
    stream = w.site("stream0", 32)
    layers = [*conv(3, stream, 3, "stream0"), nn.ReLU()]
    for i, (full, stride) in enumerate(((32, 1), (64, 2), (64, 1))):
        name = f"stream{int(full == 64)}"
        before, stream, hidden = stream, w.site(name, full), w.site(f"hidden{i}", full)
        body = [*conv(before, hidden, 3, f"hidden{i}", stride=stride), nn.ReLU(), *conv(hidden, stream, 3, name)]
        layers.append(Residual(body, conv(before, stream, 1, name, stride=stride) if stride > 1 else (), nn.ReLU()))
    return nn.Sequential(*layers, *head(stream))


def mobile(w: Widths) -> nn.Module:
    stream = w.site("stream0", 16)
    layers = [*conv(3, stream, 3, "stream0"), nn.ReLU6()]
    for i, (full, stride) in enumerate(((16, 1), (24, 2), (24, 1))):
        name = f"stream{int(full == 24)}"
        before, stream, hidden = stream, w.site(name, full), w.site(f"hidden{i}", 6 * full)
        body = [*conv(before, hidden, 1, f"hidden{i}"), nn.ReLU6()]
        body += [*conv(hidden, hidden, 3, f"hidden{i}", stride=stride, groups=hidden), nn.ReLU6()]
        body += conv(hidden, stream, 1, name)
        layers += body if before != stream else [Residual(body)]
    return nn.Sequential(*layers, *head(stream))


class Grow(nn.Module):
    """x beside what is computed from it."""

    def __init__(self, *body: nn.Module):
        super().__init__()
        self.body = nn.Sequential(*body)

    def forward(self, x):
        return torch.cat([x, self.body(x)], 1)


def dense(w: Widths) -> nn.Module:
    sites, channels = ["stem"], w.site("stem", 32)
    layers: list[nn.Module] = [made(nn.Conv2d(3, channels, 3, padding=1, bias=False), "stem")]
    for i in range(4):
        narrow, growth = w.site(f"narrow{i}", 48), w.site(f"growth{i}", 16)
        layers.append(
            Grow(
                made(nn.BatchNorm2d(channels), *sites),
                nn.ReLU(),
                *conv(channels, narrow, 1, f"narrow{i}"),
                nn.ReLU(),
                made(nn.Conv2d(narrow, growth, 3, padding=1, bias=False), f"growth{i}"),
            )
        )
        sites.append(f"growth{i}")
        channels += growth
        if i == 1:
            layers += [made(nn.BatchNorm2d(channels), *sites), nn.ReLU()]
            sites, channels, before = ["transition"], w.site("transition", 32), channels
            layers += [made(nn.Conv2d(before, channels, 1, bias=False), "transition"), nn.AvgPool2d(2)]
    return nn.Sequential(*layers, made(nn.BatchNorm2d(channels), *sites), nn.ReLU(), *head(channels))


class Excite(nn.Module):
    """x times a gate for each channel, computed from the means of all."""

    def __init__(self, channels: int, hidden: int, site: str):
        super().__init__()
        self.reduce = made(nn.Linear(channels, hidden), f"{site}.squeeze")
        self.expand = gate(nn.Linear(hidden, channels), site)

    def forward(self, x):
        means = x.mean((2, 3))
        return x * torch.sigmoid(self.expand(torch.relu(self.reduce(means))))[:, :, None, None]


def squeeze_excite(w: Widths) -> nn.Module:
    channels, layers = 3, []
    for i, full in enumerate((32, 48, 64)):
        before, channels, hidden = channels, w.site(f"c{i}", full), w.site(f"c{i}.squeeze", full // 4)
        layers += [
            *conv(before, channels, 3, f"c{i}", stride=1 + (i > 0)),
            nn.ReLU(),
            Excite(channels, hidden, f"c{i}"),
        ]
    return nn.Sequential(*layers, *head(channels))


class Shuffle(nn.Module):
    """Channel (g, j) goes to (j, g)."""

    def __init__(self, groups: int):
        super().__init__()
        self.groups = groups

    def forward(self, x):
        n, c, height, width = x.shape
        return x.reshape(n, self.groups, c // self.groups, height, width).transpose(1, 2).reshape(n, c, height, width)


def shuffle(w: Widths) -> nn.Module:
    groups = 2
    stream = w.site("stream", 32, groups)
    layers = [*conv(3, stream, 3, "stream"), nn.ReLU()]
    for i in range(3):
        # The second grouped convolution sees the channels shuffled, so the groups of both must lose alike.
        name, hidden = f"hidden{i}", w.site(f"hidden{i}", 32, groups * groups)
        body = [*conv(stream, hidden, 1, name, groups=groups), nn.ReLU(), Shuffle(groups)]
        body += conv(hidden, hidden, 3, name, groups=hidden, order=lambda x: x.reshape(groups, -1).T.reshape(-1))
        layers.append(Residual([*body, *conv(hidden, stream, 1, "stream", groups=groups)], after=nn.ReLU()))
    return nn.Sequential(*layers, *head(stream))


class Attention(nn.Module):
    """Softmax attention over tokens, its heads apart; queries, keys and values from three layers or from one."""

    def __init__(self, width: int, w: Widths, name: str, *, fused: bool):
        super().__init__()
        inner = w.site(f"{name}.qk", HEADS * HEAD_DIM, HEADS)
        self.fused, sites = fused, [f"{name}.qk", f"{name}.qk", f"{name}.v"]
        inner = w.site(f"{name}.v", HEADS * HEAD_DIM, HEADS)
        parts = (
            [made(nn.Linear(width, 3 * inner), *sites)] if fused else [made(nn.Linear(width, inner), s) for s in sites]
        )
        self.project = nn.ModuleList(parts)
        self.out = nn.Linear(inner, width)

    def forward(self, x):
        n, tokens, _ = x.shape
        parts = self.project[0](x).chunk(3, -1) if self.fused else [part(x) for part in self.project]
        q, k, v = (part.reshape(n, tokens, HEADS, -1).transpose(1, 2) for part in parts)
        # The scale is that of the full width: to cut dimensions must not change the function.
        weights = torch.softmax(q @ k.transpose(2, 3) * HEAD_DIM**-0.5, -1)
        return self.out((weights @ v).transpose(1, 2).reshape(n, tokens, -1))


def _transformer(w: Widths, *, fused: bool) -> nn.Module:
    width = HEADS * HEAD_DIM
    layers: list[nn.Module] = [nn.Linear(TOKENS[1], width)]
    for i in range(3):
        layers.append(Residual([nn.LayerNorm(width), Attention(width, w, f"attention{i}", fused=fused)]))
        hidden = w.site(f"mlp{i}", 2 * width)
        mlp = [made(nn.Linear(width, hidden), f"mlp{i}"), nn.GELU(), nn.Linear(hidden, width)]
        layers.append(Residual([nn.LayerNorm(width), *mlp]))
    return nn.Sequential(*layers, nn.LayerNorm(width), nn.Linear(width, CLASSES))


def transformer(w: Widths) -> nn.Module:
    return _transformer(w, fused=False)


def fused_transformer(w: Widths) -> nn.Module:
    return _transformer(w, fused=True)


class Skip(nn.Module):
    """down → inner → up, beside what came in."""

    def __init__(self, down: nn.Module, inner: nn.Module, up: nn.Module):
        super().__init__()
        self.down, self.inner, self.up = down, inner, up

    def forward(self, x):
        return torch.cat([x, self.up(self.inner(self.down(x)))], 1)


def unet(w: Widths) -> nn.Module:
    first, second, middle = w.site("first", 16), w.site("second", 32), w.site("middle", 64)
    up1, up0, last = w.site("up1", 32), w.site("up0", 16), w.site("last", 16)
    inner = [*conv(second, middle, 3, "middle"), nn.ReLU()]
    deep = [*conv(first, second, 3, "second"), nn.ReLU()]
    lift = made(nn.ConvTranspose2d(middle, up1, 2, 2), "up1")
    deep.append(Skip(nn.MaxPool2d(2), nn.Sequential(*inner), lift))
    lift = made(nn.ConvTranspose2d(second + up1, up0, 2, 2), "up0")
    layers = [*conv(3, first, 3, "first"), nn.ReLU(), Skip(nn.MaxPool2d(2), nn.Sequential(*deep), lift)]
    return nn.Sequential(*layers, *conv(first + up0, last, 3, "last"), nn.ReLU(), nn.Conv2d(last, 2, 1))


TOPOLOGIES: dict[str, Callable[[Widths], nn.Module]] = {
    "plain": plain,
    "resnet": resnet,
    "mobile": mobile,
    "dense": dense,
    "squeeze-excite": squeeze_excite,
    "shuffle": shuffle,
    "transformer": transformer,
    "fused-transformer": fused_transformer,
    "unet": unet,
}
VALUES = ("zero", "constant")
MASKS = ("aligned", "unaligned")


def input_shape(name: str) -> tuple[int, ...]:
    return TOKENS if "transformer" in name else IMAGE


def network(name: str, *, half: bool = False, extra: int = 0) -> tuple[nn.Module, Widths]:
    """Returns a network as after a training: no channel is its own mean, none has unit variance."""
    torch.manual_seed(0)
    widths = Widths(half, extra)
    built = TOPOLOGIES[name](widths)
    for module in built.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias, std=0.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2.0)
    return built.eval(), widths


def mask(widths: Widths, kind: str, seed: int = 0) -> Dead:
    """Returns which channels of each site die: the first half of each of its parts, or a random half."""
    generator = np.random.default_rng(seed)
    dead = {}
    for name, (size, parts) in widths.sites.items():
        rows = np.tile(np.arange(size // parts) < size // parts // 2, (parts, 1))
        dead[name] = (generator.permuted(rows, axis=1) if kind == "unaligned" else rows).reshape(-1)
    return dead


@torch.no_grad()
def kill(built: nn.Module, dead: Dead, value: str, seed: int = 0) -> None:
    """Makes channels zero, or constant: a normalization of scale 0 with its shift, a filter of zeros with its bias."""
    generator = torch.Generator().manual_seed(seed)
    for module in built.modules():
        if not hasattr(module, "rows") or (value == "zero" and hasattr(module, "is_gate")):
            continue
        index = torch.from_numpy(np.flatnonzero(module.rows(dead)))
        normalized = module.bias is None
        if value == "zero" or not normalized:
            axis = 1 if isinstance(module, nn.ConvTranspose2d) else 0
            module.weight.index_fill_(axis, index, 0.0)
        if not normalized:
            constants = torch.randn(len(index), generator=generator)
            module.bias[index] = constants if value == "constant" else 0.0


@cache
def exported(name: str, *, half: bool = False, extra: int = 0) -> ModelProto:
    """Returns a network as ONNX; not to be changed."""
    model = strip_metadata(to_onnx(network(name, half=half, extra=extra)[0], input_shape(name)))
    model.ir_version = min(model.ir_version, IR_VERSION)
    return model


def masked(name: str, value: str, kind: str) -> tuple[nn.Module, ModelProto]:
    """Returns a network with half of its channels dead, and the same as ONNX."""
    built, widths = network(name)
    kill(built, mask(widths, kind), value)
    model = ModelProto()
    model.CopyFrom(exported(name))
    state = built.state_dict()
    for tensor in model.graph.initializer:
        if tensor.name in state:
            tensor.CopyFrom(numpy_helper.from_array(state[tensor.name].numpy(), tensor.name))
    return built, model
