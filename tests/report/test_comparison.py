"""Comparisons as pages, tables and plots; several runs beside each other; energies of a search."""

import json
import re
import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import pytest
from test_report_html import ATTACK, Page, cells

from compress.errors import CompressError
from compress.report import RunFigures
from compress.report.comparison import (
    ComparisonFigures,
    comparison_of,
    markdown_comparison,
    terminal_comparison,
    write_comparison,
)
from compress.report.comparison.interval import mean
from compress.report.comparison.page import html_comparison
from compress.report.html import html_report
from compress.report.plot import COMPARISON_PLOTS, draw_plots
from compress.report.plots import energies
from compress.report.series import series_of


def trial(seed, accuracy, kept, **figures):
    return {
        "seed": seed,
        "accuracy": accuracy,
        "parameters": round(1000 * kept),
        "macs": round(20_000 * kept),
        "file_bytes": round(4000 * kept),
        "seconds": 10.0 + seed,
        "channels": [{"layer": "conv1", "before": 8, "kept": round(8 * kept)}, {"layer": "fc", "before": 4, "kept": 4}],
        **figures,
    }


@pytest.fixture
def comparison():
    return {
        "name": "digits",
        "by": "parameters",
        "unpruned": [trial(seed, 95.0 + seed, 1.0, seconds=None) for seed in (0, 1, 2)],
        "entries": [
            {"method": "fpgm", "ratio": 0.5, "trials": [trial(seed, 92.0 + 2 * seed, 0.5) for seed in (0, 1, 2)]},
            {"method": "fpgm", "ratio": 0.75, "trials": [trial(seed, 88.0 + seed, 0.25) for seed in (0, 1, 2)]},
            {"method": "random", "ratio": 0.5, "trials": [trial(0, 90.0, 0.375)]},
            {
                "method": "slimming+bn-scale",
                "ratio": 0.5,
                "failures": [{"seed": 0, "reason": "the network has no BatchNorm"}],
            },
        ],
        "recipe": {"seed": 0, "train": {"epochs": 3}},
        "machine": {"cpu": "a | b"},
    }


def test_mean_and_interval_by_hand():
    # s² = ((−2)² + 0 + 2²) / 2 = 4, s / √3 = 1.1547, t of two degrees of freedom is 4.3027.
    found = mean([92.0, 94.0, 96.0])
    assert (found.value, found.count) == (94.0, 3)
    assert found.half_width == pytest.approx(4.302653 * 2 / 3**0.5, rel=1e-6)
    assert mean([92.0]).half_width is None


def test_the_table_holds_the_figures_given(comparison):
    text = html_comparison(ComparisonFigures.from_dict(comparison))
    table = {(row[0], row[1]): row[2:] for row in cells(Page(text), "comparison")}
    assert table["unpruned", "–"] == ["96.00 ± 2.48", "–", "1,000 (100.0 %)", "20,000 (100.0 %)", "4,000", "–"]
    assert table["fpgm", "50 %"] == ["94.00 ± 4.97", "–", "500 (50.0 %)", "10,000 (50.0 %)", "2,000", "11.0"]
    # One seed says nothing of chance.
    assert table["random", "50 %"][:3] == ["90.00", "−2.00", "375 (37.5 %)"]
    failed = next(key for key in table if key[0].startswith("slimming+bn-scale"))
    assert failed[0] == "slimming+bn-scaleseed 0: the network has no BatchNorm"
    assert table[failed][:3] == ["failed", "–", "–"]
    assert "3 methods at the same share of the parameters, 3 seeds each; 1 network could not be made" in text
    assert re.findall("<strong>(.*?)</strong>", text) == ["94.00 ± 4.97"]


def test_differences_are_paired_by_seed(comparison):
    # fpgm has 92, 94, 96. Differences −1, −1, −4: mean −2, s = √3, half of the interval 4.3027 · √3 / √3.
    comparison["entries"][2]["trials"] = [trial(seed, value, 0.5) for seed, value in ((2, 92.0), (0, 91.0), (1, 93.0))]
    text = markdown_comparison(ComparisonFigures.from_dict(comparison))
    assert "| random | 50 % | 92.00 ± 2.48 | −2.00 ± 4.30 |" in text
    # At the other budget there is nothing to differ from.
    assert "| fpgm | 75 % | 89.00 ± 2.48 | – |" in text


def test_markdown_and_terminal_say_the_same(comparison):
    figures = ComparisonFigures.from_dict(comparison)
    text = markdown_comparison(figures)
    assert "| fpgm | 50 % | **94.00 ± 4.97** | – | 500 (50.0 %) | 10,000 (50.0 %) | 2,000 | 11.0 |" in text
    assert "- slimming+bn-scale, seed 0: the network has no BatchNorm" in text
    assert "a \\| b" in text
    assert "epochs = 3" in text
    assert "epochs" not in markdown_comparison(figures, whole=False)
    columns = {column.header: list(column.cells) for column in terminal_comparison(figures).columns}
    assert [str(cell) for cell in columns["parameters"]] == ["100.0 %", "50.0 %", "37.5 %", "–", "25.0 %"]


def test_plots_hold_the_figures_given(comparison):
    text = html_comparison(ComparisonFigures.from_dict(comparison))
    curves = re.search(r'id="plot-accuracy-by-cost".*?</figure>', text, re.S)[0]
    assert (
        "fpgm: 89.00 per cent at 25 per cent, 94.00 per cent at 50 per cent; random: 90.00 per cent at 37.5" in curves
    )
    assert "With 75 % of the parameters gone" not in curves
    assert curves.count("<svg") == 3
    # Each method has a colour and a sign of its own.
    assert 'class="dot" style="--c: var(--s1)"></i>fpgm' in curves
    assert 'class="square" style="--c: var(--s2)"></i>random' in curves
    bars = re.search(r'id="plot-channels-by-method".*?</figure>', text, re.S)[0]
    assert "50 % gone, channels gone: fpgm: conv1 4.0; random: conv1 5.0" in bars
    assert bars.count("<svg") == 2
    assert ">fc<" not in bars


def test_every_plot_has_a_title_and_an_alternative_text_and_no_fixed_colour(comparison):
    drawn = draw_plots(COMPARISON_PLOTS, ComparisonFigures.from_dict(comparison))
    assert sorted(name for name, _ in drawn) == COMPARISON_PLOTS.names()
    for _, plot in drawn:
        assert plot.title[0] == plot.title[0].upper()
        for svg in plot.panels:
            assert re.search(r'aria-label="[^"]{20,}', svg)
            assert not re.search(r"#[0-9a-f]{6}", svg)


def test_an_axis_follows_intervals_only_so_far(comparison):
    comparison["entries"][0]["trials"] = [trial(0, 60.0, 0.5), trial(1, 99.0, 0.5)]
    curves = html_comparison(ComparisonFigures.from_dict(comparison))
    ticks = [float(tick) for tick in re.findall(r">(\d+)</text>", curves)]
    assert max(ticks) <= 100


def test_no_two_methods_look_alike():
    drawn = series_of([str(index) for index in range(30)])
    assert len({(series.colour, series.shape) for series in drawn.values()}) == 30
    pairs = list(drawn.values())
    assert all(a.colour != b.colour and a.shape != b.shape for a, b in pairwise(pairs))


def test_text_from_outside_is_escaped(comparison):
    comparison["name"] = ATTACK
    for entry in comparison["entries"]:
        entry["method"] = ATTACK + entry["method"]
    comparison["entries"][3]["failures"][0]["reason"] = ATTACK
    text = html_comparison(ComparisonFigures.from_dict(comparison))
    assert "<script" not in text
    assert not [tag for tag, table in Page(text).tags if tag in {"script", "b"} or "onload" in table]
    assert not re.search(r"https?:|@import|url\((?!#)|<link|<img", text)


def test_files_are_read_back(comparison, tmp_path):
    figures = ComparisonFigures.from_dict(comparison)
    paths = write_comparison(figures, tmp_path)
    assert ComparisonFigures.from_dict(json.loads(paths.json.read_text())) == figures
    assert paths.html.read_text() == html_comparison(figures)
    assert [path.name for path in paths.plots] == [
        "comparison-accuracy-by-cost.svg",
        "comparison-channels-by-method.svg",
    ]
    for path in paths.plots:
        root = ElementTree.fromstring(path.read_text())
        assert "var(--" not in path.read_text()
        words = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
        assert {"fpgm", "random"} <= set(words)


def test_a_figure_that_does_not_fit_is_named(comparison):
    comparison["entries"][1]["trials"][0]["accuracy"] = 101
    with pytest.raises(
        CompressError, match=r"figures: entries.1.trials.0.accuracy: Input should be less than or equal"
    ):
        ComparisonFigures.from_dict(comparison)
    with pytest.raises(CompressError, match="figures: unknown section 'entrys'; next: did you mean 'entries'"):
        ComparisonFigures.from_dict({"name": "a", "by": "macs", "entrys": []})


def run(figures, **changes):
    table = json.loads(json.dumps(figures))
    for key, value in changes.items():
        table["recipe"]["prune"][key] = value
    return table


def test_several_runs_are_a_comparison(figures):
    runs = [run(figures), {**run(figures), "seed": 4}, run(figures, ratio=0.7), run(figures, method="fpgm")]
    found = comparison_of([RunFigures.from_dict(table) for table in runs])
    assert [(entry.method, entry.ratio, len(entry.trials)) for entry in found.entries] == [
        ("backward-selection", 0.5, 2),
        ("backward-selection", 0.7, 1),
        ("fpgm", 0.5, 1),
    ]
    one = found.entries[0].trials[0]
    assert (one.accuracy, one.parameters, one.file_bytes) == (91.05, 121488, 172801)
    assert one.seconds == pytest.approx(sum(stage["seconds"] for stage in figures["stages"][1:]))
    assert [trial.accuracy for trial in found.unpruned] == [91.62, 91.62]
    assert 'id="plot-accuracy-by-cost"' in html_comparison(found)
    assert 'id="plot-channels-by-method"' in html_comparison(found)


def test_runs_that_differ_elsewhere_are_told_apart_by_name(figures):
    other = {**run(figures), "name": "longer"}
    found = comparison_of([RunFigures.from_dict(table) for table in (figures, other, other)])
    names = [entry.method for entry in found.entries]
    assert names[0] == f"backward-selection ({figures['name']})"
    assert names[1:] == ["backward-selection (longer) 2", "backward-selection (longer) 3"]


def test_single_weights_that_are_zero_do_not_count(figures):
    cost = {"cost_before": {"parameters": 269722, "macs": 9}, "cost_after": {"parameters": 1000, "macs": 9}}
    figures["stages"][1]["figures"] = cost
    found = comparison_of([RunFigures.from_dict(figures)])
    assert found.entries[0].trials[0].parameters == 1000


def test_runs_of_different_networks_are_not_compared(figures):
    other = run(figures)
    other["seed"] = 9
    other["sizes"]["before"]["parameters"] = 5
    with pytest.raises(CompressError, match="began with different networks: 5 and 269,722 parameters"):
        comparison_of([RunFigures.from_dict(table) for table in (figures, other)])
    other["sizes"]["before"]["parameters"] = None
    with pytest.raises(CompressError, match="has no sizes; next: run it to its end"):
        comparison_of([RunFigures.from_dict(other)])


def test_energies_are_drawn_while_states_compete(figures):
    figures["energies"] = [
        {"epoch": 1, "best_energy": -0.5, "mean_energy": 1.0, "competing": True},
        {"epoch": 2, "best_energy": -2.25, "mean_energy": -1.0, "competing": True},
        {"epoch": 3, "best_energy": -2.0, "mean_energy": -2.0, "competing": False},
    ]
    figures["training"].append({"stage": "prune", "history": [{"epoch": e, "loss": 2.0 / e} for e in (1, 2, 3)]})
    text = html_report(RunFigures.from_dict(figures)).replace("−", "-")
    plot = re.search(r'id="plot-energies".*?</figure>', text, re.S)[0]
    assert "The best state's energy goes from -0.50 to -2.25" in plot.replace("&#39;", "'")
    assert "States compete until epoch 2, the dotted line" in plot
    assert "training loss from 2 to 0.6667 in 3 epochs" in plot
    assert plot.count("<svg") == 2
    figures["energies"] = []
    assert energies.draw(RunFigures.from_dict(figures)) is None
