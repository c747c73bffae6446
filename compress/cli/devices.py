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
    from compress.profiling.resolve import resolve

    found = resolve(name, tell_on_stderr)
    facts = {"device": found.name, **({"because": found.reason} if found.reason else {}), **found.device.facts()}
    if as_json:
        print_json(facts)
    else:
        print_table(name, ("fact", "value"), facts.items())


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


@devices.command()
def calibrate(name: Name, as_json: Json = False) -> None:
    """Measure what convolutions of 1 to 64 channels cost on a device, for `rewrite --round-to auto --target`."""
    from compress.console import print_json, print_table, working
    from compress.profiling.calibrate import calibrate as measure
    from compress.width_table import write_table

    with working("calibrating"):
        table = measure(name, tell_on_stderr)
    path = write_table(table)
    tell_on_stderr(f"kept as {path}; next: compress rewrite MODEL --round-to auto --target {table.device}")
    if as_json:
        print_json(table.to_dict())
        return
    rows = []
    for kind_element, costs in table.costs.items():
        kind, element = kind_element.split("/")
        better = [width for width in range(1, len(costs)) if table.cheapest(kind, element, width, len(costs)) > width]
        rows.append((kind, element, f"{costs[15]:,.1f}", f"{costs[-1]:,.1f}", ", ".join(map(str, better)) or "none"))
    columns = ("convolution", "numbers", f"16 channels, {table.unit}", f"{len(costs)} channels", "cheaper when wider")
    print_table(f"{table.device}, {table.runtime}", columns, rows)


@devices.command("test")
def check_device(name: Name, as_json: Json = False) -> None:
    """Measure a small model on a device and compare its outputs with this machine's.

    Exit 1 if they differ by more than 1e-5.
    """
    from compress.console import print_json, print_table, working
    from compress.profiling.trial import try_device

    with working("testing"):
        found = try_device(name, tell_on_stderr)
    if as_json:
        print_json(found.to_dict())
    else:
        print_table(name, ("what", "found"), found.rows())
    raise typer.Exit(0 if found.passed else 1)
