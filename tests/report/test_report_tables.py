import io

from rich.console import Console

from compress.report import RunFigures, markdown_table, terminal_table
from compress.report.markdown import markdown_report
from compress.report.plot import PLOTS
from compress.report.summary import device_latencies, lead, speed_words, summary_rows, verdict


def terminal(table, width=100):
    console = Console(file=io.StringIO(), width=width, force_terminal=False, color_system=None, legacy_windows=False)
    console.print(terminal_table(RunFigures.from_dict(table)))
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def number(text):
    return float(text.replace(",", "").replace("−", "-").strip("≤≥ ×%"))


GOLDEN = """\
resnet20 on CIFAR-10, half the MACs, stored as ONNX, int8 QDQ

                            before        after               change                budget   result
 ──────────────────────────────────────────────────────────────────────────────────────────────────
 File size (bytes)       1,100,344      172,801              −84.3 %             ≤ 262,144   pass
 Parameters                269,722      121,488              −55.0 %                     –   –
 MACs                   40,813,184   20,189,440              −50.5 %          ≤ 20,500,000   pass
 Peak activations          196,608      131,072              −33.3 %              ≤ 98,304   FAIL
 (bytes)
 Accuracy, test (%)          91.62        91.05         −0.57 points                ≥ 90.5   pass
 Accuracy lost                   –         0.57                    –                 ≤ 0.6   pass
 (points)
 Latency, host (ms)          2.413       0.9372               0.388×               ≤ 0.45×   pass
                                                       (0.372–0.405)
 Operators off the               –         none                    –      only Conv, Relu,   pass
 list                                                                                  Add

Over budget: 1 of 7 limits broken – peak activations
"""


def test_the_terminal_table_at_fixed_width(figures):
    assert terminal(figures) == GOLDEN.rstrip("\n")


def test_the_terminal_table_shows_markup_as_text(figures):
    figures["name"] = "[bold]x[/bold] [/]"
    assert "[bold]x[/bold] [/]" in terminal(figures)


def test_figures_in_the_markdown_table_are_the_figures_given(figures):
    lines = markdown_table(RunFigures.from_dict(figures)).splitlines()[2:]
    rows = {cells[0]: cells[1:] for cells in ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)}
    for name, key in [("File size (bytes)", "file_bytes"), ("Parameters", "parameters"), ("MACs", "macs")]:
        assert number(rows[name][0]) == figures["sizes"]["before"][key]
        assert number(rows[name][1]) == figures["sizes"]["after"][key]
    assert number(rows["File size (bytes)"][3]) == 262144
    assert number(rows["Accuracy, test (%)"][0]) == 91.62
    assert number(rows["Accuracy, test (%)"][1]) == 91.05
    assert number(rows["Latency, host (ms)"][0]) == 2.413
    assert number(rows["Latency, host (ms)"][1]) == 0.9372
    assert rows["Peak activations (bytes)"][4] == "❌ FAIL"
    assert rows["MACs"][4] == "✅ pass"
    assert rows["Parameters"][4] == "–"


def test_names_cannot_break_out_of_markdown(figures):
    figures["notes"] = ["a | b <script>alert(1)</script>\n# heading"]
    figures["channels"][0]["layer"] = "x|y`z"
    figures["deployable"]["path"] = "a`b.onnx"
    text = markdown_report(RunFigures.from_dict(figures))
    assert "<script>" not in text
    assert "- a \\| b &lt;script&gt;alert(1)&lt;/script&gt; \\# heading" in text
    assert "| x\\|y\\`z |" in text
    assert "`` a`b.onnx ``" in text


def test_the_verdict_names_what_fails(figures):
    run = RunFigures.from_dict(figures)
    assert verdict(run) == ("fail", "Over budget: 1 of 7 limits broken – peak activations")
    for row in figures["budget"]:
        row["passed"] = True
    assert verdict(RunFigures.from_dict(figures)) == ("pass", "Within budget: all 7 limits kept")
    assert verdict(RunFigures(name="x"))[0] == "none"


def test_an_interval_around_one_is_no_speed_up(figures):
    figures["latency"][2] |= {"ratio": 0.98, "ratio_low": 0.95, "ratio_high": 1.01}
    assert "no measurable change of latency on host" in lead(RunFigures.from_dict(figures))


def test_a_failing_figure_never_looks_like_its_limit():
    row = {"name": "accuracy_drop", "measured": 0.500001, "limit": 0.5, "passed": False}
    (shown,) = summary_rows(RunFigures.from_dict({"name": "x", "budget": [row]}))
    assert (shown.after, shown.limit, shown.outcome) == ("0.500001", "≤ 0.5", "fail")


def test_what_was_judged_is_what_is_shown(figures):
    figures["budget"][0]["measured"] = 300000
    row = summary_rows(RunFigures.from_dict(figures))[0]
    assert (row.after, row.note) == ("300,000", "measured before the check: 172,801")


def test_budget_rows_of_unknown_names_and_devices_are_shown():
    budget = [
        {"name": "flash", "measured": 3, "limit": 2, "passed": False},
        {"name": "latency_ratio.arm", "measured": 0.4, "limit": 0.5, "passed": True},
        {"name": "operators", "measured": ["Einsum"], "limit": list("abcdef"), "passed": False},
    ]
    rows = summary_rows(RunFigures.from_dict({"name": "x", "budget": budget}))
    assert [(row.name, row.after, row.limit, row.outcome) for row in rows] == [
        ("Flash", "3", "2", "fail"),
        ("Latency on arm", "0.4", "≤ 0.5", "pass"),
        ("Operators off the list", "Einsum", "only 6 kinds", "fail"),
    ]


def test_a_minimal_run_has_tables_without_rows():
    assert terminal({"name": "x"}).split() == ["x", "No", "budget", "was", "given,", "so", "nothing", "was", "checked"]
    assert markdown_table(RunFigures(name="x")) == ""


def test_instructions_are_shown_as_such_and_never_as_time(figures):
    rows = [row for row in figures["latency"] if row["device"] == "host"]
    counted = [
        {key: value for key, value in row.items() if key not in ("p50_ms", "p90_ms", "load_ms", "peak_rss_bytes")}
        | {"device": "arm", "kind": "counted", "instructions": 20.5e6 if index == 0 else 9.75e6}
        for index, row in enumerate(rows)
    ]
    run = RunFigures.from_dict({**figures, "latency": [*rows, *counted]})
    row = next(row for row in summary_rows(run) if row.name == "Instructions, arm")
    assert (row.unit, row.before, row.after, row.outcome) == ("M", "20.5", "9.75", "none")
    assert speed_words(device_latencies(run)[1]) == "2.6× fewer instructions on arm"
    panels = PLOTS.get("operators")(run).panels
    assert "time in one run on host (µs)" in panels[0]
    assert "instructions of one run on arm (thousands)" in panels[1]
    assert "µs" not in panels[1]
    assert "20,500,000 instructions" in markdown_report(run)


def test_a_bound_is_not_called_a_measurement(figures):
    rows = [row | {"device": "estimate", "kind": "estimated"} for row in figures["latency"] if row["device"] == "host"]
    run = RunFigures.from_dict({**figures, "latency": rows})
    assert any(row.name == "Bound, estimate" for row in summary_rows(run))
    assert speed_words(device_latencies(run)[0]).endswith("faster by estimate on estimate")
    assert "bound of the time of one run" in PLOTS.get("operators")(run).panels[0]
