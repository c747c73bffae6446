"""`compress devices`: where models can be measured."""

from __future__ import annotations

from typing import Annotated

import typer

from compress.cli.options import Json, tell_on_stderr

devices = typer.Typer(name="devices", help="Boards and emulators that models are measured on.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="arm, a kind such as arm-emu:cortex-a76, or a name of devices.toml.")]


@devices.command("list")
def list_devices(as_json: Json = False) -> None:
    """List what `--device` understands here."""
    from compress.console import print_json, print_table
    from compress.profiling.known import known_devices

    found = known_devices()
    if as_json:
        print_json([vars(device) for device in found])
    else:
        rows = ((device.name, device.what, device.state) for device in found)
        print_table("devices", ("name", "what it is", "state"), rows)


@devices.command()
def add(
    name: Annotated[str, typer.Argument(help="What the device is to be called.")],
    address: Annotated[str, typer.Argument(help='Where it is, e.g. "ssh://pi@board:22".')],
    user: Annotated[
        bool, typer.Option("--user", help="For all projects of this user, not for this one alone.")
    ] = False,
) -> None:
    """Give a device a name, in devices.toml."""
    from compress.profiling import configured

    entry = configured.add(name, address, configured.user_file() if user else configured.project_file())
    tell_on_stderr(f"{entry.file}: {entry.name} is {entry.at}; next: compress devices test {entry.name}")


@devices.command()
def show(name: Name, as_json: Json = False) -> None:
    """Tell what a device is; another machine is asked."""
    from compress.console import print_json, print_table
    from compress.profiling.fact_rows import fact_rows
    from compress.profiling.resolve import resolve

    found = resolve(name, tell_on_stderr)
    facts = {"device": found.name, **({"because": found.reason} if found.reason else {}), **found.device.facts()}
    if as_json:
        print_json(facts)
    else:
        print_table(name, ("fact", "value"), fact_rows(facts))


@devices.command()
def setup(name: Name) -> None:
    """Make a device ready: fetch and build what it needs, once."""
    from compress.console import working
    from compress.profiling.resolve import resolve

    found = resolve(name, tell_on_stderr)
    if found.reason:
        tell_on_stderr(f"device {name!r} is {found.name}: {found.reason}")
    with working("setting up"):
        found.device.set_up()
    tell_on_stderr(f"{found.name} is ready")


@devices.command("test")
def check_device(name: Name, as_json: Json = False) -> None:
    """Measure a small model on a device and compare its outputs with this machine's.

    Exit 1 if they differ by more than 1e-5 or cannot be compared. An estimate has none.
    """
    from compress.console import print_json, print_table, working
    from compress.profiling.trial import try_device

    with working("testing"):
        found = try_device(name, tell_on_stderr)
    if as_json:
        print_json(found.to_dict())
    else:
        print_table(name, ("what", "found"), found.rows())
    raise typer.Exit(1 if found.passed is False else 0)


@devices.command()
def calibrate(
    name: Name,
    widths: Annotated[int, typer.Option(help="The largest number of channels to measure.")] = 48,
    element: Annotated[
        list[str] | None, typer.Option(help="Type of the weights, float32 (default) or int8; repeat it for both.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure what convolutions cost over the number of their channels.

    The table is kept; `--round-to auto` and [prune] round_to = "auto" choose widths by it. It takes a minute on this
    machine, several on an emulated one.
    """
    from compress.console import print_json, print_table, working
    from compress.profiling.calibrate import calibrate as measure
    from compress.profiling.calibrate import elements_named
    from compress.targets.table import write_table

    with working("measuring"):
        table = measure(name, widths=widths, elements=elements_named(element or ["float32"]), tell=tell_on_stderr)
    tell_on_stderr(f"kept as {write_table(table)}")
    if as_json:
        print_json(table.model_dump())
        return
    rows = ((one, " ".join(map(str, table.good_widths(one)))) for one in table.costs)
    print_table(f"{table.device}, {table.runtime}", ("convolution", "widths than which no wider one is cheaper"), rows)
