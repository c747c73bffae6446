"""Rounding: dead channels stay where that is faster, at the same outputs."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from strategies import networks
from test_rewrite_properties import assert_sound

from compress.channels.graph import Node
from compress.channels.widths import Everything, Multiple, Site
from compress.errors import CompressError, MachineError, RecipeError
from compress.onnx_io.session import session
from compress.pipeline.measuring import latencies
from compress.profiling import profile
from compress.recipe import ProfileSettings, RewriteSettings, validate
from compress.rewrite import explain, rewrite
from compress.rewrite.rounding import Latencies
from compress.targets import targets

CHANNELS, DEAD = 24, 11


def built(nodes, weights, shape):
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "rounded",
        [value("input", TensorProto.FLOAT, ["N", 3, 6, 6])],
        [value("output", TensorProto.FLOAT, ["N", *shape])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def drawn(shapes, dead):
    """Weights of these shapes, with as many leading rows zeroed as `dead` says."""
    random = np.random.default_rng(0)
    weights = {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    for name, count in dead.items():
        weights[name][:count] = 0
    return weights


def model():
    """conv → relu → conv2 + shortcut conv → conv: an inner layer and a sum of two, 11 of 24 dead in each."""
    shapes = {"w0": (24, 3, 3, 3), "w1": (24, 24, 3, 3), "s": (24, 24, 1, 1), "w2": (4, 24, 1, 1)}
    nodes = [
        helper.make_node("Conv", ["input", "w0"], ["c0"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c0"], ["r0"]),
        helper.make_node("Conv", ["r0", "w1"], ["c1"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["r0", "s"], ["c2"]),
        helper.make_node("Add", ["c1", "c2"], ["a"]),
        helper.make_node("Conv", ["a", "w2"], ["output"]),
    ]
    return built(nodes, drawn(shapes, dict.fromkeys(("w0", "w1", "s"), DEAD)), (4, 6, 6))


def depthwise():
    """1×1 → depthwise 3×3 → 1×1 → Gemm over the mean: 3 of 24 dead on the way in, 3 of 10 on the way out."""
    shapes = {"w0": (24, 3, 1, 1), "w1": (24, 1, 3, 3), "w2": (10, 24, 1, 1), "w3": (5, 10)}
    nodes = [
        helper.make_node("Conv", ["input", "w0"], ["c0"]),
        helper.make_node("Conv", ["c0", "w1"], ["c1"], group=24, pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["c1", "w2"], ["c2"]),
        helper.make_node("GlobalAveragePool", ["c2"], ["m"]),
        helper.make_node("Flatten", ["m"], ["f"]),
        helper.make_node("Gemm", ["f", "w3"], ["output"], transB=1),
    ]
    return built(nodes, drawn(shapes, {"w0": 3, "w2": 3}), (5,))


def concatenated():
    """Two convolutions of 12, 4 and 5 of them dead, → Concat → conv: what its reader wants is shared by both."""
    shapes = {"a": (12, 3, 1, 1), "b": (12, 3, 1, 1), "w": (4, 24, 3, 3)}
    nodes = [
        helper.make_node("Conv", ["input", "a"], ["x"]),
        helper.make_node("Conv", ["input", "b"], ["y"]),
        helper.make_node("Concat", ["x", "y"], ["z"], axis=1),
        helper.make_node("Conv", ["z", "w"], ["output"]),
    ]
    return built(nodes, drawn(shapes, {"a": 4, "b": 5}), (4, 4, 4))


def beside():
    """Concat of a convolution of 12, 4 of them dead, and a depthwise one of 24, 3 of them dead, → conv."""
    shapes = {"a": (12, 3, 1, 1), "b": (24, 3, 1, 1), "d": (24, 1, 3, 3), "w": (4, 36, 3, 3)}
    nodes = [
        helper.make_node("Conv", ["input", "a"], ["x"]),
        helper.make_node("Conv", ["input", "b"], ["e"]),
        helper.make_node("Conv", ["e", "d"], ["y"], group=24, pads=[1, 1, 1, 1]),
        helper.make_node("Concat", ["x", "y"], ["z"], axis=1),
        helper.make_node("Conv", ["z", "w"], ["output"]),
    ]
    return built(nodes, drawn(shapes, {"a": 4, "b": 3}), (4, 4, 4))


def widths(model):
    return {tensor.name: tensor.dims[0] for tensor in model.graph.initializer}


def outputs(model, images):
    return session(model.SerializeToString()).run(None, {"input": images})[0]


@pytest.mark.parametrize(
    ("multiple", "kept"),
    [(1, 13), ("none", 13), (2, 14), (8, 16), (13, 13), (16, 16), (20, 20), (32, 24), ("all", 24)],
)
def test_each_layer_keeps_a_multiple_or_everything(multiple, kept):
    original, chosen = model(), RewriteSettings(round_to=multiple)
    result = rewrite(original, chosen)
    assert result.proven
    assert widths(result.model) == {"w0": kept, "w1": kept, "s": kept, "w2": 4}
    images = np.random.default_rng(1).standard_normal((2, 3, 6, 6)).astype(np.float32)
    np.testing.assert_allclose(outputs(result.model, images), outputs(original, images), atol=1e-4)
    assert widths(rewrite(result.model, chosen).model) == widths(result.model)


@pytest.mark.parametrize(
    ("original", "expected"),
    [
        # 21 → 24 for the depthwise convolution. What a Gemm reads is cut to the 7 that are needed.
        (depthwise(), {"w0": 24, "w1": 24, "w2": 7, "w3": 5}),
        # 8 + 7 = 15 → 16, which is what the dense convolution reads.
        (concatenated(), {"a": 9, "b": 7, "w": 4}),
        # 21 → 24 for the depthwise convolution makes 32 for the reader: nothing more has to come back.
        (beside(), {"a": 8, "b": 24, "d": 24, "w": 4}),
    ],
)
def test_each_layer_is_rounded_for_itself(original, expected):
    result = rewrite(original, RewriteSettings(round_to="auto", target="x86"))
    assert result.proven
    assert widths(result.model) == expected
    assert (result.rounding.asked, result.rounding.used, result.rounding.target) == ("auto", "x86", "x86")


def test_what_suits_one_target_does_not_suit_another():
    result = rewrite(depthwise(), RewriteSettings(round_to="auto", target="arm"))
    assert widths(result.model) == {"w0": 21, "w1": 21, "w2": 7, "w3": 5}


CHOICES = st.sampled_from([2, 3, 4, 8, "all", ("auto", "x86"), ("auto", "arm")])


@settings(settings.get_profile("stable"), max_examples=20)
@given(networks(), CHOICES)
def test_a_rounded_rewrite_is_sound_small_and_final(network, choice):
    round_to, target = choice if isinstance(choice, tuple) else (choice, None)
    assert_sound(network, RewriteSettings(round_to=round_to, target=target))


SITES = [
    Site(Node("Conv", "n", ("x", "w"), ("y",), {"group": group}), "w", axis, role, shape, element)
    for group, shape in ((1, (40, 40, 3, 3)), (1, (40, 40, 1, 1)), (40, (40, 1, 3, 3)), (2, (40, 20, 3, 3)))
    for axis, role in ((0, "out"), (1, "in"))
    for element in ("float32", "int8", "uint8", "float16", "")
]
POLICIES = {"3": Multiple(3), "all": Everything(), **{name: targets.get(name) for name in targets}}


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_stays_in_bounds_and_keeps_to_its_answer(name):
    for site in SITES:
        for total in (1, 7, 16, 40):
            for living in range(1, total + 1):
                width = POLICIES[name].kept(site, living, total)
                assert living <= width <= total
                assert POLICIES[name].kept(site, living, width) == width


def test_each_architecture_belongs_to_one_target():
    known = [machine for name in targets for machine in targets.get(name).architectures]
    assert len(known) == len(set(known))


@dataclass(frozen=True)
class Given:
    """An interval that no clock has seen."""

    ratio: float
    low: float
    high: float


def by_rows(*tables, timed=True):
    """A clock for `model()`: channels that w0 keeps → latency and its error, a table an effort. It keeps its calls."""
    calls = []

    def measure(models, effort):
        kept = [widths(one)["w0"] for one in models]
        table = tables[len(calls) % len(tables)]
        calls.append((kept, effort))

        def pairs(one, other):
            (a, error), (b, other_error) = table[kept[one]], table[kept[other]]
            spread = 1 if one == other else (1 + error) * (1 + other_error)
            return Given(a / b, a / b / spread, a / b * spread)

        return Latencies("somewhere", pairs, timed)

    return measure, calls


SLOW, EQUAL, FAST = (1.3, 0.01), (1.01, 0.002), (1.0, 0.002)


@pytest.mark.parametrize(
    ("table", "used", "why"),
    [
        ({13: FAST, 16: EQUAL, 24: SLOW}, "none", "the smallest of 3 candidates is the fastest, as far as measured"),
        (
            {13: EQUAL, 16: FAST, 24: FAST},
            "none",
            "the smallest of 3 candidates that is shown to lose at most 2 % against the fastest, 4",
        ),
        (
            {13: SLOW, 16: EQUAL, 24: FAST},
            "4",
            "the smallest of 3 candidates that is shown to lose at most 2 % against the fastest, all",
        ),
        (
            {13: SLOW, 16: SLOW, 24: FAST},
            "all",
            "the fastest of 3 candidates, as far as measured; no smaller one is shown to lose at most 2 % against it",
        ),
    ],
)
def test_the_smallest_that_is_shown_to_be_as_fast_is_taken(monkeypatch, table, used, why):
    monkeypatch.setattr("platform.machine", lambda: "unheard-of")
    measure, calls = by_rows(table)
    result = rewrite(model(), RewriteSettings(round_to="auto"), measure=measure)
    assert result.proven
    assert (result.rounding.used, result.rounding.target, result.rounding.why) == (used, "somewhere", why)
    assert result.rounding.uncertain == ()
    # 4, 8 and 16 all give 16, which is measured once.
    assert calls == [([13, 16, 24], 1)]
    assert [one.round_to for one in result.rounding.tried] == ["none", "4", "all"]
    # What has been rounded so is measured to be so again, and stays.
    again = rewrite(result.model, RewriteSettings(round_to="auto"), measure=measure)
    assert widths(again.model) == widths(result.model)


@pytest.mark.parametrize(
    ("tables", "efforts", "used", "uncertain"),
    [
        # At first everything could be as fast as anything; then it is known.
        (({13: (1.04, 0.1), 16: FAST, 24: FAST}, {13: (1.04, 0.001), 16: FAST, 24: FAST}), [1, 4], "4", ()),
        (({13: (1.04, 0.1), 16: FAST, 24: FAST}, {13: FAST, 16: FAST, 24: FAST}), [1, 4], "none", ()),
        # It stays unknown: nothing is taken for granted, and no third time is spent.
        (
            ({13: (1.04, 0.1), 16: FAST, 24: FAST},),
            [1, 4],
            "4",
            ("whether none is as fast as 4: within 0.944–1.146",),
        ),
        (
            ({13: FAST, 16: SLOW, 24: (1.02, 0.1)},),
            [1, 4],
            "none",
            ("whether all is faster than none: within 0.925–1.124",),
        ),
    ],
)
def test_what_is_not_settled_is_measured_once_more_and_told(monkeypatch, tables, efforts, used, uncertain):
    monkeypatch.setattr("platform.machine", lambda: "unheard-of")
    measure, calls = by_rows(*tables)
    rounding = rewrite(model(), RewriteSettings(round_to="auto"), measure=measure).rounding
    assert [effort for _, effort in calls] == efforts
    assert (rounding.used, rounding.uncertain) == (used, uncertain)


def test_what_no_clock_has_timed_is_not_measured_again(monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "unheard-of")
    measure, calls = by_rows({13: (1.04, 0.1), 16: FAST, 24: FAST}, timed=False)
    rounding = rewrite(model(), RewriteSettings(round_to="auto"), measure=measure).rounding
    assert len(calls) == 1
    assert (rounding.used, len(rounding.uncertain)) == ("4", 1)


def test_where_rounding_changes_nothing_nothing_is_measured():
    live, random = model(), np.random.default_rng(1)
    for tensor in live.graph.initializer:
        values = random.standard_normal(tensor.dims).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    measure, calls = by_rows({})
    assert rewrite(live, RewriteSettings(round_to="auto"), measure=measure).rounding.target is None
    assert calls == []


def test_a_clock_that_fails_is_not_hidden():
    def broken(models, effort):
        raise MachineError("no clock", next_step="wind it up")

    with pytest.raises(MachineError, match="wind it up"):
        rewrite(model(), RewriteSettings(round_to="auto"), measure=broken)


def test_this_machine_measures_pairs_and_for_longer_if_asked(monkeypatch):
    asked = []

    def kept(paths, settings):
        asked.append((settings.blocks, settings.processes))
        return profile(paths, settings)

    monkeypatch.setattr("compress.pipeline.measuring.profile", kept)
    measure = latencies(ProfileSettings(blocks=1, processes=1, runs=1, warmup=0))
    found, _ = measure([model(), depthwise()], 1), measure([model()], 3)
    assert asked == [(1, 1), (3, 3)]
    assert found.target.startswith("host (")
    assert found.timed
    assert found.pairs(1, 1).ratio == 1
    there, back = found.pairs(0, 1), found.pairs(1, 0)
    assert 0 < there.low <= there.ratio <= there.high
    assert back.low == pytest.approx(1 / there.high)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"round_to": 0}, "--round-to: it is none, auto, all, or a number from 1 on; got 0"),
        ({"round_to": True}, "--round-to: it is none, auto, all, or a number from 1 on; got True"),
        ({"round_to": "most"}, "--round-to: it is none, auto, all, or a number from 1 on; got most"),
        ({"target": "arm"}, "target: it says how auto rounds; set round_to to auto too; got arm"),
    ],
)
def test_a_wrong_setting(given, message):
    with pytest.raises(RecipeError, match=message):
        validate(given, RewriteSettings, "options")


def test_an_unknown_target_and_an_unknown_machine(monkeypatch):
    with pytest.raises(
        CompressError, match=r"nothing is known of target 'amr'; allowed: arm, x86; next: measure it.*calibrate amr"
    ):
        rewrite(model(), RewriteSettings(round_to="auto", target="amr"))
    monkeypatch.setattr("platform.machine", lambda: "unheard-of")
    with pytest.raises(CompressError, match="this machine, unheard-of; allowed: arm, x86; next: measure it"):
        explain(model(), RewriteSettings(round_to="auto"))
