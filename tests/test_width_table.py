import json

import numpy as np
import pytest

from compress.channels.graph import Node
from compress.channels.widths import Site
from compress.cli import main
from compress.errors import CompressError
from compress.profiling.calibrate import WIDEST, convolutions
from compress.recipe import RewriteSettings
from compress.rewrite import rewrite
from compress.rewrite.measured_widths import MeasuredWidths
from compress.rewrite.rounding import policy, unmeasured
from compress.width_table import KINDS, WidthTable, read_table, table_path, worthwhile, write_table


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def stepped(step: int, growth: float = 2.0, widest: int = WIDEST) -> tuple[float, ...]:
    """Costs of w^growth, three times that off the multiples of `step`."""
    return tuple(float(width**growth) * (3.0 if width % step else 1.0) for width in range(1, widest + 1))


def table(**others) -> WidthTable:
    costs = {f"{kind}/float32": stepped(1) for kind in KINDS}
    costs["dense/int8"], costs["depthwise/int8"] = stepped(4), stepped(8, growth=1.0)
    return WidthTable("board:x", "r 1", "us", {**costs, **others})


def test_a_wider_layer_is_taken_where_it_costs_less():
    known = table()
    assert known.cheapest("dense", "float32", 9, 64) == 9
    assert known.cheapest("dense", "int8", 9, 64) == 12
    assert known.cheapest("dense", "int8", 9, 11) == 9
    assert known.cheapest("depthwise", "int8", 9, 64) == 16
    assert known.cheapest("pointwise", "int8", 9, 64) == 9  # unknown


def test_a_gain_within_the_noise_is_none():
    flat = tuple(100.0 - 0.5 * (width % 2) for width in range(WIDEST))
    assert table(**{"dense/float32": flat}).cheapest("dense", "float32", 1, 4) == 1


def test_beyond_the_table_its_last_period_repeats():
    known = table()
    for width in (65, 67, 68, 100, 129, 256):
        factor = 3.0 if width % 4 else 1.0
        assert known.cost("dense", "int8", width) == pytest.approx(factor * width**2)
    assert known.cheapest("dense", "int8", 129, 256) == 132
    assert known.cheapest("depthwise", "int8", 250, 300) == 256


def test_an_answer_is_not_changed_when_it_is_asked_about(cache):
    random = np.random.default_rng(0)
    known = table(**{"dense/float32": tuple(random.uniform(1, 2, 40))})
    for living in range(1, 60):
        for total in range(living, 60, 7):
            for kind, element in (("dense", "float32"), ("dense", "int8"), ("depthwise", "int8")):
                width = known.cheapest(kind, element, living, total)
                assert known.cheapest(kind, element, living, width) == width


def test_a_table_is_kept():
    assert read_table("board:x") is None
    path = write_table(table())
    assert path == table_path("board:x")
    assert read_table("board:x") == table()


@pytest.mark.parametrize(
    "content",
    ["[]", "{}", '{"device": "d", "runtime": "r", "unit": "us", "costs": {}}', "no"]
    + [json.dumps(table(**{"dense/int8": row}).to_dict()) for row in ((1.0,), (0.0,) * 64, (-1.0,) * 64)],
)
def test_a_damaged_table_is_no_table(content):
    path = table_path("board:x")
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(CompressError, match="next: ") as error:
        read_table("board:x")
    assert "\n" not in str(error.value)


def site(shape, element, group=1):
    return Site(Node("Conv", "c", ["x", "w"], ["y"], {"group": group}), "w", 0, "out", shape, element)


def test_the_rewriter_asks_the_table_of_a_target():
    write_table(table())
    settings = RewriteSettings(round_to="auto", target="board:x")
    chosen = policy(settings)
    assert isinstance(chosen, MeasuredWidths)
    assert chosen.kept(site((40, 8, 3, 3), "int8"), 9, 40) == 12
    assert chosen.kept(site((40, 1, 3, 3), "uint8", group=40), 9, 40) == 16
    assert chosen.kept(site((40, 8, 3, 3), "float32"), 9, 40) == 9
    assert unmeasured(settings).why == "what the device was calibrated to"
    with pytest.raises(CompressError, match=r"unknown target 'board:y'.*compress devices calibrate board:y"):
        rewrite(convolutions("dense", "float32", [4]), RewriteSettings(round_to="auto", target="board:y"))


def test_pruning_passes_over_widths_that_cost_more():
    pytest.importorskip("torch")
    from compress.prune.select import allowed_counts
    from compress.recipe import PruneSettings

    write_table(table(**{"pointwise/int8": stepped(1)}))
    assert worthwhile("board:x", 12) == set(range(1, 13))
    assert allowed_counts(20, PruneSettings(widths_for="board:x/int8")).tolist() == [1, 2, 8, 16, 20]
    assert allowed_counts(20, PruneSettings(widths_for="board:x/int8", round_to=16)).tolist() == [16, 20]
    assert allowed_counts(5, PruneSettings(widths_for="board:x")).tolist() == [1, 2, 3, 4, 5]
    write_table(table(**{"pointwise/int8": stepped(4)}, **{"depthwise/int8": stepped(4)}))
    assert allowed_counts(20, PruneSettings(widths_for="board:x/int8")).tolist() == [1, 2, 4, 8, 12, 16, 20]
    with pytest.raises(CompressError, match="'board:y' was not calibrated; next: compress devices calibrate board:y"):
        allowed_counts(8, PruneSettings(widths_for="board:y"))
    with pytest.raises(CompressError, match="has no costs of int4"):
        allowed_counts(8, PruneSettings(widths_for="board:x/int4"))


def test_this_machine_can_be_calibrated(monkeypatch, capsys):
    from compress.profiling import calibrate

    narrow = calibrate.calibrate
    monkeypatch.setattr(calibrate, "calibrate", lambda name, tell: narrow(name, tell, widest=32))
    monkeypatch.setattr("sys.argv", ["compress", "devices", "calibrate", "host", "--json"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 0
    printed = json.loads(capsys.readouterr().out)
    assert read_table("host").to_dict() == printed
    assert {name: len(costs) for name, costs in printed["costs"].items()} == {
        f"{kind}/{element}": 32 for kind in KINDS for element in ("float32", "int8")
    }
