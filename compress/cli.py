"""The command line: parse, call one verb, print. Heavy imports happen in the command that needs them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from compress import __version__
from compress.errors import CompressError, MachineError

app = typer.Typer(
    name="compress",
    help="From a trained network to a budgeted, proven, measured artefact on an embedded target.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

# Click's class, wherever the installed typer keeps it.
_UsageError: Any = typer.BadParameter.__bases__[0]
_INTERRUPTED = 130

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Output = Annotated[Path, typer.Option("-o", "--output", help="The file to write.")]
RecipeFile = Annotated[Path, typer.Argument(help="A recipe (TOML).")]


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(f"compress {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit


@app.command()
def run(
    recipe: RecipeFile,
    folder: Annotated[Path | None, typer.Option(help="Run folder; default: runs/NAME.")] = None,
    export: Annotated[Path, typer.Option(help="Where artefacts are published.")] = Path("export"),
    as_json: Json = False,
) -> None:
    """Run a recipe from training to report, or what has changed of it.

    Train, prune, compact, retrain, export, rewrite, quantize, profile, check, report.
    Interrupted, the same command goes on; unchanged, it does nothing.
    """
    _require_torch()
    _require_recipe(recipe)
    from compress.console import TerminalReporter, print_json, print_line
    from compress.pipeline import run as run_recipe
    from compress.report import terminal_table

    with TerminalReporter() as reporter:
        result = run_recipe(recipe, folder, export=export, reporter=reporter)
    if as_json:
        print_json(result.figures.to_dict())
    else:
        from rich.console import Console

        Console().print(terminal_table(result.figures))
        print_line(f"report: {result.report}\nmodel:  {result.model}")
    raise typer.Exit(result.check.exit_code if result.check else 0)


@app.command()
def train(recipe: RecipeFile, output: Output, as_json: Json = False) -> None:
    """Train the network of a recipe. Interrupted, the same command goes on."""
    _require_torch()
    _require_recipe(recipe)
    from compress.console import TerminalReporter, print_json, print_line
    from compress.pipeline.standalone import train_file

    with TerminalReporter() as reporter:
        reporter.stage("train", "running")
        figures = train_file(recipe, output, reporter=reporter)
        reporter.stage("train", "done")
    if as_json:
        print_json({"path": str(output), **figures})
    else:
        print_line(f"{output}: {figures['parameters']:,} parameters, test accuracy {figures['test_accuracy']:.2f} %")


@app.command()
def prune(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint (safetensors).")],
    output: Output,
    recipe: Annotated[
        Path | None, typer.Option(help="Recipe that says what goes, and brings data; options here take precedence.")
    ] = None,
    method: Annotated[str | None, typer.Option(help="Criterion or search; see `compress methods`.")] = None,
    ratio: Annotated[float | None, typer.Option(help="Share of the cost that goes; default: 0.5.")] = None,
    of: Annotated[str | None, typer.Option(help="The cost: macs (default), parameters or channels.")] = None,
    scope: Annotated[
        str | None, typer.Option(help="The same share a layer (layer, default), or one ranking (global).")
    ] = None,
    plan: Annotated[Path | None, typer.Option(help="Write the plan here too.")] = None,
    as_json: Json = False,
) -> None:
    """Prune a checkpoint and cut the pruned channels out."""
    _require_torch()
    from compress.console import TerminalReporter, print_json, print_table
    from compress.pipeline.standalone import prune_file

    given = {"method": method, "ratio": ratio, "of": of, "scope": scope}
    settings = {name: value for name, value in given.items() if value is not None}
    with TerminalReporter() as reporter:
        reporter.stage("prune", "running")
        summary = prune_file(checkpoint, output, settings, recipe_path=recipe, plan_path=plan, reporter=reporter)
        reporter.stage("prune", "done")
    if as_json:
        print_json({"path": str(output), **summary})
        return
    before, after = summary["cost_before"], summary["cost_after"]
    rows = [(name, f"{before[name]:,}", f"{after[name]:,}", f"{after[name] / before[name]:.1%}") for name in before]
    print_table(str(output), ("", "before", "after", "kept"), rows)


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint (safetensors).")],
    output: Output,
    network: Annotated[str | None, typer.Option(help="For weights from elsewhere: name or path.py:factory.")] = None,
    input_shape: Annotated[str | None, typer.Option(help="For weights from elsewhere: C,H,W.")] = None,
    opset: Annotated[int, typer.Option(help="Version of the ONNX operators.")] = 18,
    fixed_batch: Annotated[bool, typer.Option(help="Fix the batch size to 1.")] = False,
    as_json: Json = False,
) -> None:
    """Export a checkpoint as ONNX, checked against torch."""
    _require_torch()
    from compress.console import print_json, print_line, working
    from compress.pipeline.standalone import export_file
    from compress.recipe import ExportSettings, validate

    settings = validate({"opset": opset, "dynamic_batch": not fixed_batch}, ExportSettings, "options")
    shape = _shape(input_shape) if input_shape is not None else None
    with working("exporting"):
        figures = export_file(checkpoint, output, settings, network=network, input_shape=shape)
    if as_json:
        print_json(figures)
    else:
        print_line(f"{output}: {figures['file_bytes']:,} bytes, within {figures['max_abs_diff']:.2g} of torch")


@app.command()
def rewrite(
    model: Annotated[Path, typer.Argument(help="An ONNX file.")],
    output: Output,
    epsilon: Annotated[float | None, typer.Option(help="Weights below ε × the largest count as zero.")] = None,
    exact: Annotated[bool, typer.Option(help="Only true zeros count.")] = False,
    round_to: Annotated[int, typer.Option(help="Keep multiples of this many channels; 8 or 16 suit x86.")] = 1,
    tolerance: Annotated[float, typer.Option(help="Largest relative difference of outputs.")] = 1e-5,
    as_json: Json = False,
) -> None:
    """Remove dead channels from an ONNX file, with proof."""
    from compress.console import print_json, print_line, print_table, working
    from compress.recipe import RewriteSettings, validate
    from compress.rewrite import rewrite_file

    given: dict[str, Any] = {"tolerance": tolerance, "round_to": round_to}
    if exact or epsilon is not None:
        given["epsilon"] = 0.0 if exact else epsilon
    with working("rewriting"):
        result = rewrite_file(model, output, validate(given, RewriteSettings, "options"))
    if as_json:
        print_json(result.to_dict())
        return
    figures = result.to_dict()
    rows = [
        (label, f"{figures[f'{key}_before']:,}", f"{figures[f'{key}_after']:,}")
        for label, key in (("parameters", "params"), ("MACs", "macs"), ("file bytes", "file_bytes"))
    ]
    print_table(str(output), ("", "before", "after"), rows)
    proof = f"outputs within {result.max_abs_diff:.2g}" if result.proven else "not proven: the original is kept"
    print_line(f"{result.channels_removed} channels removed, {proof}, {result.seconds:.1f} s")
    for note in result.notes:
        print_line(f"  {note}")
    if result.blocked:
        columns = ("tensor", "channels", "why they stay")
        reasons = ((b.tensor, b.channels, f"{b.reason} ({b.node})" if b.node else b.reason) for b in result.blocked)
        print_table("constant channels that stay", columns, reasons)


@app.command()
def explain(
    model: Annotated[Path, typer.Argument(help="An ONNX file.")],
    epsilon: Annotated[float | None, typer.Option(help="Weights below ε × the largest count as zero.")] = None,
    exact: Annotated[bool, typer.Option(help="Only true zeros count.")] = False,
    markdown: Annotated[Path | None, typer.Option(help="Write a Markdown table here.")] = None,
    as_json: Json = False,
) -> None:
    """Tell why an ONNX file does not shrink, by layer."""
    from compress.artifact import write_text
    from compress.console import print_json, print_line, print_table
    from compress.recipe import RewriteSettings, validate
    from compress.rewrite import explain as explain_model
    from compress.rewrite.explain import reason

    given = {} if epsilon is None and not exact else {"epsilon": 0.0 if exact else epsilon}
    found = explain_model(model, validate(given, RewriteSettings, "options"))
    if markdown is not None:
        write_text(markdown, found.markdown())
    if as_json:
        print_json(found.to_dict())
        return
    rows = ((one.node, one.op, one.channels, one.dead, one.constant, one.duplicate) for one in found.layers)
    print_table(str(model), ("layer", "op", "channels", "dead", "constant", "duplicate"), rows)
    for layer in found.layers:
        for row in layer.kept:
            print_line(f"{layer.node}: {reason(row)}")
    for operator, count in found.unknown.items():
        print_line(f"{operator} × {count}: no rule, all that it touches stays")


@app.command()
def quantize(
    model: Annotated[Path, typer.Argument(help="A float32 ONNX file.")],
    output: Output,
    recipe: Annotated[Path | None, typer.Option(help="Recipe whose training images calibrate.")] = None,
    inputs: Annotated[Path | None, typer.Option(help=".npz whose first array [N, …] calibrates.")] = None,
    format_name: Annotated[str, typer.Option("--format", help="int8 or none.")] = "int8",
    samples: Annotated[int, typer.Option(help="How many images calibrate.")] = 256,
    as_json: Json = False,
) -> None:
    """Quantize an ONNX file, calibrated on real inputs."""
    from compress.console import print_json, print_line, working
    from compress.pipeline.standalone import quantize_file
    from compress.recipe import QuantizeSettings, validate

    settings = validate({"format": format_name, "samples": samples}, QuantizeSettings, "options")
    with working("quantizing"):
        figures = quantize_file(model, output, settings, recipe_path=recipe, inputs=inputs)
    if as_json:
        print_json(figures)
        return
    print_line(f"{output}: {figures['file_bytes_before']:,} → {figures['file_bytes_after']:,} bytes")
    if "test_accuracy_before" in figures:
        before, after = figures["test_accuracy_before"], figures["test_accuracy_after"]
        print_line(f"test accuracy {before:.2f} → {after:.2f} %")


@app.command()
def profile(
    models: Annotated[list[Path], typer.Argument(help="ONNX files; the first is what the others are compared to.")],
    device: Annotated[str, typer.Option(help="Where.")] = "host",
    runs: Annotated[int, typer.Option(help="Runs a block.")] = 10,
    blocks: Annotated[int, typer.Option(help="Alternating blocks.")] = 20,
    warmup: Annotated[int, typer.Option(help="Runs before the first block.")] = 10,
    threads: Annotated[int, typer.Option(help="Of ONNX Runtime.")] = 1,
    batch_size: Annotated[int, typer.Option(help="Images a run.")] = 1,
    operators: Annotated[int, typer.Option(help="How many of the slowest operators to list.")] = 5,
    as_json: Json = False,
) -> None:
    """Measure latency, load time and memory of ONNX files.

    The others are compared with the first, in alternating blocks; ratios come with their interval.
    """
    from compress.console import print_json, print_table, working
    from compress.profiling import profile as measure
    from compress.recipe import ProfileSettings, validate

    given = {"device": device, "runs": runs, "blocks": blocks, "warmup": warmup, "threads": threads}
    with working("measuring"):
        reports = measure(models, validate({**given, "batch_size": batch_size}, ProfileSettings, "options"))
    if as_json:
        print_json([report.to_dict() for report in reports])
        return
    rows = []
    for report in reports:
        ratio = report.ratio
        against = f"{ratio.ratio:.3f} ({ratio.low:.3f}–{ratio.high:.3f}) {ratio.verdict}" if ratio else "1"
        memory = f"{report.peak_rss_bytes / 2**20:.0f}" if report.peak_rss_bytes is not None else None
        load = f"{report.load_ms:.1f}" if report.load_ms is not None else None
        rows.append((report.model, f"{report.p50_us:.0f}", against, load, memory, f"{report.file_bytes:,}"))
    columns = ("model", "p50 µs", "ratio (95 %)", "load ms", "peak MiB", "file bytes")
    print_table(f"{reports[0].device}, {reports[0].runtime}, {threads} thread(s)", columns, rows)
    for report in reports if operators else ():
        slowest = ((o.operator, o.node, f"{o.us:.1f}", f"{o.share:.1%}") for o in report.operators[:operators])
        print_table(report.model, ("operator", "node", "µs", "share"), slowest)


@app.command()
def check(
    path: Annotated[Path, typer.Argument(help="A model, its folder, or a folder of such folders.")] = Path("export"),
    budget: Annotated[Path | None, typer.Option(help="Budget file; default: budget.toml beside each model.")] = None,
    accept: Annotated[bool, typer.Option(help="Write baseline.json: later models must not be larger.")] = False,
    github: Annotated[bool, typer.Option(help="Print GitHub annotations too.")] = False,
    markdown: Annotated[Path | None, typer.Option(help="Write a Markdown summary here.")] = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML here.")] = None,
    as_json: Json = False,
) -> None:
    """Hold the models of export/ against their budgets.

    Exit 1 if a limit is exceeded.
    """
    from compress.artifact import write_text
    from compress.check import accept as accept_models
    from compress.check import check as check_models
    from compress.check import output as check_output
    from compress.check.output import figure
    from compress.console import print_json, print_line, print_table
    from compress.recipe import load_budget

    for written in accept_models(path) if accept else ():
        sys.stderr.write(f"{written} written\n")
    result = check_models(path, load_budget(budget) if budget is not None else None)
    if markdown is not None:
        write_text(markdown, check_output.markdown(result))
    if junit is not None:
        write_text(junit, check_output.junit(result))
    if as_json:
        print_json(result.to_dict())
    else:
        rows = (
            (r.model, r.name, figure(r.measured), figure(r.limit), "ok" if r.passed else "FAIL", r.note)
            for r in result.rows
        )
        print_table("budget", ("model", "figure", "measured", "limit", "", "note"), rows)
        for row in result.violations:
            print_line(f"over budget: {check_output.sentence(row)}")
    if github:
        # GitHub reads both streams; stdout must stay JSON where that is asked for.
        (sys.stderr if as_json else sys.stdout).write(check_output.github_annotations(result))
    raise typer.Exit(result.exit_code)


@app.command()
def report(
    source: Annotated[Path, typer.Argument(help="A run folder, or its report.json.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder to write to.")] = None,
    as_json: Json = False,
) -> None:
    """Write the report of a run again.

    JSON, Markdown, and one HTML page with everything inside.
    """
    from compress.artifact import read_json, require_file
    from compress.console import print_json, print_line
    from compress.report import RunFigures, write_report

    path = require_file(source / "report.json" if source.is_dir() else source, "report")
    paths = write_report(RunFigures.from_dict(read_json(path)), output or path.parent)
    if as_json:
        print_json({name: str(value) for name, value in vars(paths).items()})
    else:
        print_line("\n".join(str(value) for value in vars(paths).values()))


@app.command()
def methods(as_json: Json = False) -> None:
    """List the methods of pruning, and where they come from.

    With --json: id, kind, what it does, source, knobs.
    """
    _require_torch()
    from dataclasses import asdict

    from compress.console import print_json, print_table
    from compress.prune import methods as known

    found = known()
    if as_json:
        print_json([asdict(method) for method in found])
    else:
        print_table("methods", ("id", "kind", "what it does"), ((m.id, m.kind, m.summary) for m in found))


def main() -> NoReturn:
    """Runs the command line; a user's mistake ends in one line on stderr and an exit code, never in a traceback."""
    code: int | None
    try:
        code = app(prog_name="compress", standalone_mode=False)
    except CompressError as error:
        code = _fail(str(error), error.exit_code)
    except _UsageError as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "compress"
        text = " ".join(error.format_message().split()).rstrip(".")
        code = _fail(f"{text}; next: see {command} --help", CompressError.exit_code)
    except OSError as error:
        code = _fail(f"{error.filename or 'the system'}: {error.strerror or error}", MachineError.exit_code)
    except KeyboardInterrupt:
        code = _INTERRUPTED
    if code == _INTERRUPTED:
        _fail("interrupted; next: give the same command again, what was finished is kept", code)
    sys.exit(code or 0)


def _fail(text: str, code: int) -> int:
    sys.stderr.write(f"error: {text}\n")
    return code


def _require_torch() -> None:
    from importlib.util import find_spec

    if find_spec("torch") is None:
        raise MachineError(
            "this command needs torch, which is not installed", next_step="pip install 'compress[train]'"
        )


def _require_recipe(path: Path) -> None:
    """Tells a mistake in a recipe at once: torch takes seconds to import."""
    from compress.recipe import load_recipe

    load_recipe(path)


def _shape(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(size) for size in text.split(","))
    except ValueError:
        raise CompressError("--input-shape is not a list of sizes", got=text, allowed="e.g. 3,32,32") from None
