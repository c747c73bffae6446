"""Widths by what was measured: fewer channels that cost more are never chosen."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.channels.graph import Node
from compress.channels.widths import Everything, Multiple, Site
from compress.errors import CompressError
from compress.targets import targets
from compress.targets.choose import target_named
from compress.targets.known_steps import KnownSteps
from compress.targets.table import WidthTable, read_table, row, table_file, write_table

# Multiples of 4 cost what one channel fewer would; all others cost a half more.
CLIFFS = [width * (1.0 if width % 4 == 0 else 1.5) for width in range(1, 33)]


def table(costs, name="dense in float32", device="host") -> WidthTable:
    about = {"architecture": "x86_64", "runtime": "onnxruntime 1", "unit": "us", "protocol": "by hand"}
    return WidthTable(device=device, costs={name: costs}, **about)


def site(role="in", groups=1, kernel=3, element="float32", operator="Conv") -> Site:
    node = Node(name="n", operator=operator, inputs=("x", "w"), outputs=("y",), attributes={"group": groups})
    return Site(node, "w", 1, role, (8, 1 if groups > 1 else 8, kernel, kernel), element)


def test_a_wider_layer_that_is_cheaper_is_taken():
    # 7 channels cost 10.5, 8 cost 8; 6 cost 9; 5 cost 7.5, less than 8.
    assert [table(CLIFFS).kept(site(), living, 32) for living in (4, 5, 6, 7, 8, 13)] == [4, 5, 8, 8, 8, 16]
    # 13 cost 19.5; there are no more than 15.
    assert table(CLIFFS).kept(site(), 13, 15) == 13


def test_other_sites_are_not_its_business():
    for other in (site("out"), site(kernel=1), site(groups=8), site(element="int8"), site(operator="Gemm")):
        assert table(CLIFFS).kept(other, 7, 32) == 7


def test_unsigned_numbers_are_like_signed_ones():
    assert row("dense", "in", "uint8") == row("dense", "in", "int8")


def test_beyond_the_table_its_last_channels_repeat():
    # 39 would cost a half more than 40 for each channel.
    assert [table(CLIFFS).kept(site(), living, 1000) for living in (39, 40, 327)] == [40, 40, 328]


def test_beyond_the_table_what_no_channel_costs_is_counted_once():
    found = table([100.0 + cost for cost in CLIFFS])
    assert found._cost("dense in float32", 64) == pytest.approx(164)
    assert found._cost("dense in float32", 63) == pytest.approx(100 + 63 * 1.5)


def test_less_than_the_noise_is_no_reason():
    costs = [100.0 + width for width in range(1, 33)]
    costs[6] = costs[7] * 1.01
    assert table(costs).kept(site(), 7, 32) == 7


@given(
    st.lists(st.floats(0.1, 100), min_size=16, max_size=40),
    st.integers(1, 90),
    st.integers(0, 90),
)
def test_a_width_is_never_dearer_and_asked_again_it_stays(costs, living, more):
    found = table(costs)
    total = living + more
    kept = found.kept(site(), living, total)
    assert living <= kept <= total
    name = "dense in float32"
    assert kept == living or found._cost(name, kept) < found._cost(name, living)
    assert found.kept(site(), living, kept) == kept
    assert found.kept(site(), kept, total) == kept


def test_a_table_is_kept_and_found_by_its_device(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert read_table("ssh://pi@board:22") is None
    made = table(CLIFFS, device="ssh://pi@board:22")
    path = write_table(made)
    assert path.parent.parent.parent == tmp_path
    assert read_table("ssh://pi@board:22") == made
    found = target_named("ssh://pi@board:22")
    assert found.widths == made
    assert "measured of ssh://pi@board:22" in found.source


def test_a_table_of_this_machine_goes_before_what_is_known_of_its_kind(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = target_named("x86").widths
    write_table(table(CLIFFS))
    assert target_named(None).widths == table(CLIFFS)
    assert target_named("x86").widths == before


def test_a_target_that_nobody_knows_is_told_how_to_measure(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(CompressError, match=r"nothing is known of target 'pi'.*compress devices calibrate pi"):
        target_named("pi")


@pytest.mark.parametrize(
    "change", [{"costs": {"dense in float32": [1.0] * 3}}, {"costs": {"a": [0.0] * 16}}, {"costs": 5}, {"more": 1}]
)
def test_a_damaged_table_is_refused(tmp_path, monkeypatch, change):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = write_table(table(CLIFFS, device="pi"))
    path.write_text(json.dumps(table(CLIFFS, device="pi").model_dump() | change))
    with pytest.raises(CompressError, match=table_file("pi").name):
        target_named("pi")


def paying(policy, place, total) -> list[int]:
    return (1 + np.flatnonzero(policy.paying(place, total))).tolist()


def test_pruning_stops_where_a_few_channels_more_come_for_nothing():
    # 5 channels cost 7.5, 8 cost 8: three channels for half of what one costs on average. 2 cost 3, 4 cost 4.
    assert paying(table(CLIFFS), site(), 32) == [1, 2, 4, 8, 12, 16, 20, 24, 28, 32]
    assert paying(table(CLIFFS), site(), 14) == [1, 2, 4, 8, 12, 13, 14]
    assert paying(table(CLIFFS), site("out"), 5) == [1, 2, 3, 4, 5]


def test_pruning_takes_any_width_where_each_channel_costs():
    assert paying(table([100.0 + width for width in range(1, 33)]), site(), 40) == list(range(1, 41))


def test_known_blocks_are_pruned_to():
    assert paying(targets.get("x86"), site("out"), 40) == [16, 32, 40]
    assert paying(targets.get("x86"), site("in"), 5) == [1, 2, 3, 4, 5]
    assert paying(targets.get("arm"), site("out"), 10) == [4, 8, 10]
    assert paying(targets.get("arm"), site("out", kernel=1, element="int8"), 20) == [8, 16, 20]


@pytest.mark.parametrize(
    "policy",
    [*map(targets.get, targets), table(CLIFFS), Multiple(6), Everything()],
    ids=lambda policy: type(policy).__name__,
)
@pytest.mark.parametrize("place", [site(), site("out"), site("out", groups=8), site("in", kernel=1, element="int8")])
@pytest.mark.parametrize("total", [1, 7, 16, 100])
def test_all_channels_always_pay_and_what_pays_is_kept(policy, place, total):
    pays = policy.paying(place, total)
    assert pays.shape == (total,)
    assert pays[-1]
    # A rewrite leaves what was pruned to alone: dead channels stay only where that is cheaper.
    if not isinstance(policy, KnownSteps):
        assert all(policy.kept(place, width, total) == width for width in 1 + np.flatnonzero(pays))
