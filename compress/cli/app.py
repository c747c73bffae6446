"""The commands in the order of the help, and what becomes of an error."""

from __future__ import annotations

import sys
from typing import Annotated, Any, NoReturn

import typer

from compress import __version__
from compress.cli.bundle import bundle
from compress.cli.check import check
from compress.cli.compare import compare
from compress.cli.devices import devices
from compress.cli.explain import explain
from compress.cli.export import export
from compress.cli.methods import methods
from compress.cli.pack import pack
from compress.cli.profile import profile
from compress.cli.prune import prune
from compress.cli.quantize import quantize
from compress.cli.report import report
from compress.cli.rewrite import rewrite
from compress.cli.run import run
from compress.cli.train import train
from compress.cli.unpack import unpack
from compress.errors import CompressError, MachineError

# Click's class, wherever the installed typer keeps it.
_UsageError: Any = typer.BadParameter.__bases__[0]
_INTERRUPTED = 130

app = typer.Typer(
    name="compress",
    help="From a trained network to a budgeted, proven, measured artefact on an embedded target.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


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


_WORK = (run, compare, train, prune, export, rewrite, explain, quantize, pack, unpack)
_COMMANDS = (*_WORK, profile, bundle, check, report, methods)
for command in _COMMANDS:
    app.command()(command)
app.add_typer(devices)


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
        _fail("interrupted; next: give the same command again; run and compare go on where they were", code)
    sys.exit(code or 0)


def _fail(text: str, code: int) -> int:
    sys.stderr.write(f"error: {text}\n")
    return code
