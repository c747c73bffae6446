import re
from html.parser import HTMLParser

import pytest

from compress.report import RunFigures, write_report
from compress.report.html import html_report
from compress.report.plot import PLOTS, draw_plots

VOID = {"meta", "link", "br", "hr", "img", "input"}
ATTACK = "<script>alert('x')</script>\"$\\frac{$ &amp; <b onload=1>"


class Page(HTMLParser):
    """Tags with their attributes, the text of each id, and the cells of each table row, by the table's id."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.ids, self.rows, self.text = [], {}, {}, ""
        self._open, self._table, self._cell = [], None, False
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        table = dict(attributes)
        self.tags.append((tag, table))
        if tag not in VOID:
            self._open.append((tag, table.get("id")))
        if tag == "table":
            self._table = self.rows.setdefault(table.get("id"), [])
        elif tag == "tr":
            self._table.append([])
        elif tag in {"th", "td"}:
            self._table[-1].append("")
            self._cell = True

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self._open.pop()[0] == tag
        if tag in {"th", "td"}:
            self._cell = False

    def handle_data(self, data):
        self.text += data
        if self._cell:
            self._table[-1][-1] += data
        for _, name in self._open:
            if name:
                self.ids[name] = self.ids.get(name, "") + data


def page(table):
    text = html_report(RunFigures.from_dict(table))
    return text, Page(text)


def cells(parsed, table):
    return [[" ".join(cell.split()) for cell in row] for row in parsed.rows[table][1:]]


def numbers(row):
    found = [cell.replace(",", "") for cell in row]
    return [float(cell) for cell in found if re.fullmatch(r"\d+(\.\d+)?", cell)]


def test_figures_shown_are_the_figures_given(figures):
    _, parsed = page(figures)
    summary = {row[0]: row[1:] for row in cells(parsed, "summary")}
    assert numbers(summary["File size bytes"]) == [1100344, 172801]
    assert numbers(summary["MACs"]) == [40813184, 20189440]
    assert numbers(summary["Accuracy, test %"]) == [91.62, 91.05]
    assert summary["Peak activations bytes"][-1] == "fail"
    assert parsed.ids["sha256"] == figures["deployable"]["sha256"]
    given = [[entry["stage"], entry["split"], entry["accuracy"]] for entry in figures["accuracies"]]
    assert [[row[0], row[1], float(row[2])] for row in cells(parsed, "accuracies")] == given
    given = [[entry["layer"], entry["before"], entry["kept"]] for entry in figures["channels"]]
    assert [[row[0], int(row[2]), int(row[3])] for row in cells(parsed, "channels")] == given
    for row, entry in zip(cells(parsed, "latency"), figures["latency"], strict=True):
        assert row[0] == entry["model"]
        assert float(row[2]) == entry["p50_ms"]
        assert float(row[3]) == pytest.approx(entry["p90_ms"], rel=1e-3)
        assert int(row[7].replace(",", "")) == entry["peak_rss_bytes"]
    assert [row[0] for row in cells(parsed, "stages")] == [stage["name"] for stage in figures["stages"]]
    assert 'method = "backward-selection"' in parsed.ids["recipe"]
    assert figures["notes"][0] in parsed.text


def test_plots_hold_the_figures_given(figures):
    text, _ = page(figures)
    bars = re.search(r'id="plot-channels".*?</figure>', text, re.S)[0]
    for entry in figures["channels"]:
        assert f">{entry['kept']} / {entry['before']}</text>" in bars
        assert f"{entry['layer']}: {entry['kept']} of {entry['before']} channels kept" in bars
    sizes = re.search(r'id="plot-sizes".*?</figure>', text, re.S)[0]
    for share in ("15.7 %", "45.0 %", "49.5 %", "66.7 %", "57.6 %", "38.8 %"):
        assert f">{share}</text>" in sizes
    stages = re.search(r'id="plot-accuracy".*?</figure>', text, re.S)[0]
    assert ">91.62</text>" in stages
    phases = re.search(r'id="plot-phases".*?</figure>', text, re.S)[0]
    assert "conv1: -0.90, random filters -0.45; layer1.0.conv1: -0.86, random filters -0.45" in phases.replace("−", "-")
    assert "Filters of conv1 are nearest to opposites" in phases


def attacked(value):
    """The same figures with every free text replaced."""
    if isinstance(value, dict):
        return {key: item if key in {"status", "sha256"} else attacked(item) for key, item in value.items()}
    if isinstance(value, list):
        return [attacked(item) for item in value]
    return f"{ATTACK}{value}" if isinstance(value, str) else value


def test_text_from_outside_is_escaped_everywhere(figures):
    text, parsed = page(attacked(figures))
    assert "<script" not in text
    assert not [tag for tag, attributes in parsed.tags if tag in {"script", "b"} or "onload" in attributes]
    in_plots = re.findall(r"<text[^>]*>([^<]*)</text>", text)
    assert any(label.startswith("&lt;script&gt;") or label.startswith("&lt;scr") for label in in_plots)
    assert "<script>alert('x')</script>" in parsed.ids["recipe"]


def test_control_signs_and_signs_without_a_glyph_are_drawn(figures):
    figures["channels"][0]["layer"] = "卷积\x00\x1b[31m"
    figures["accuracies"][0]["stage"] = "訓練\n"
    text, _ = page(figures)
    assert "卷积\N{REPLACEMENT CHARACTER}" in text


def test_the_page_loads_nothing(figures):
    text, parsed = page(figures)
    assert not re.search(r"https?:|@import|url\((?!#)|<link|<script|<iframe|<img|<!ENTITY", text)
    for _, attributes in parsed.tags:
        assert "src" not in attributes
        assert attributes.get("href", "#").startswith("#")
    policy = [table for tag, table in parsed.tags if tag == "meta" and "http-equiv" in table]
    assert policy[0]["content"].startswith("default-src 'none'")


def test_ids_are_unique_and_references_lead_somewhere(many_layers):
    text, parsed = page(many_layers)
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = re.findall(r"url\(#([^)]+)\)", text) + [
        attributes["href"][1:] for _, attributes in parsed.tags if "href" in attributes
    ]
    assert targets
    assert set(targets) <= set(ids)


def test_every_plot_has_a_title_and_an_alternative_text_and_no_fixed_colour(few_layers):
    run = RunFigures.from_dict(few_layers)
    drawn = draw_plots(PLOTS, run)
    assert sorted(name for name, _ in drawn) == PLOTS.names()
    for _, plot in drawn:
        assert plot.title[0] == plot.title[0].upper()
        for svg in plot.panels:
            assert 'role="img"' in svg
            assert re.search(r'aria-label="[^"]{20,}', svg)
            assert not re.search(r"#[0-9a-f]{6}", svg)


@pytest.mark.parametrize(
    "section", ["sizes", "accuracies", "channels", "weights", "phases", "energies", "training", "latency", "budget"]
)
def test_a_missing_section_leaves_out_its_plot_and_nothing_else(few_layers, section):
    everything = {name for name, _ in draw_plots(PLOTS, RunFigures.from_dict(few_layers))}
    del few_layers[section]
    text, _ = page(few_layers)
    left = {name for name in everything if f'id="plot-{name}"' in text}
    lost = {"accuracies": {"accuracy"}, "latency": {"operators"}, "sizes": set(), "budget": set()}
    assert everything - left == lost.get(section, {section})


def test_degenerate_figures_are_drawn():
    text, _ = page(
        {
            "name": "x",
            "accuracies": [{"stage": "int8", "accuracy": 0.0}],
            "channels": [{"layer": "a", "before": 0, "kept": 0}],
            "weights": [{"layer": "a", "edges": [0.0, 1.0], "before": [0], "after": [0]}],
            "energies": [{"epoch": 1, "best_energy": 0.0, "mean_energy": 0.0}],
            "phases": [{"layer": "a", "filters": 2, "mean": 0.0, "random": 0.0, "counts": [2], "random_counts": [2.0]}],
            "training": [{"stage": "t", "history": [{"epoch": 1, "loss": 0.0, "learning_rate": 0.0}]}],
            "latency": [
                {"model": "m", "operators": [{"operator": "Conv", "cost": 0.0}]},
                {"model": "n", "ratio": 0.0},
            ],
            "sizes": {"before": {"macs": 1}, "after": {"macs": 900}},
        }
    )
    assert "nan" not in text.lower().replace("nanosecond", "")


def test_a_minimal_run_is_a_page_without_plots():
    text, parsed = page({"name": "only a name"})
    assert "only a name" in parsed.text
    assert "<figure" not in text
    assert "<table" not in text


def test_two_renderings_are_the_same_bytes(few_layers, tmp_path):
    run = RunFigures.from_dict(few_layers)
    first, second = write_report(run, tmp_path / "a"), write_report(run, tmp_path / "b")
    for one, other in [(first.json, second.json), (first.markdown, second.markdown), (first.html, second.html)]:
        assert one.read_bytes() == other.read_bytes()
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["report.html", "report.json", "report.md"]


def test_the_caller_keeps_its_own_plot_settings(few_layers):
    import matplotlib

    before = dict(matplotlib.rcParams)
    html_report(RunFigures.from_dict(few_layers))
    assert dict(matplotlib.rcParams) == before


def test_a_callers_plot_settings_change_nothing(few_layers):
    import matplotlib

    run = RunFigures.from_dict(few_layers)
    plain = html_report(run)
    with matplotlib.rc_context({"lines.marker": "x", "axes.grid": True, "axes.labelweight": "bold"}):
        assert html_report(run) == plain


def test_importing_the_report_imports_no_drawing_library():
    import subprocess
    import sys

    program = "import sys, compress.report; print(sorted({'matplotlib','torch','onnxruntime'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_stage_that_comes_again_has_a_row_of_its_own():
    rounds = [("pruned", 80.0), ("retrained", 90.0), ("pruned", 70.0), ("retrained", 85.0)]
    text, _ = page({"name": "x", "accuracies": [{"stage": stage, "accuracy": value} for stage, value in rounds]})
    labels = re.findall(r"<text[^>]*>([^<]*)</text>", text)
    assert [label for label in labels if label in {"80.00", "90.00", "70.00", "85.00"}] == [
        "80.00",
        "90.00",
        "70.00",
        "85.00",
    ]
    assert {"pruned", "pruned 2", "retrained", "retrained 2"} <= set(labels)
