"""Latency of networks in 31 widths each, cut without and with the target in mind.

    XDG_CACHE_HOME=calibration compress devices calibrate host
    XDG_CACHE_HOME=calibration python benchmarks/profiling/widths.py --output benchmarks/profiling/widths.json

Each network loses up to 31/36 of the channels of every layer, in 31 steps, the plain way, and with `round_to = "auto"`
by the table that was calibrated, as far as that lets any go. All are measured in turn, in alternating blocks, against
the whole network. An *inversion* is a pair of neighbours of one series of which the one with fewer multiply-accumulates
is slower, beyond the noise: the 95 % interval of its latency over the other's, block by block, lies above 1 + 1 %. The
*yield* of a network is its speed-up over its reduction in multiply-accumulates; 1: all that went was worth its share of
the time.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from compress.architectures import networks
from compress.artifact import read_json, write_json
from compress.compact import apply_plan
from compress.errors import NetworkError
from compress.export import export
from compress.pipeline.machine import machine_facts
from compress.profiling import profile
from compress.profiling.compare import ratio_of
from compress.profiling.profile_report import ProfileReport
from compress.prune import prune
from compress.recipe import ExportSettings, ProfileSettings, PruneSettings
from compress.targets.table import read_table

NETWORKS = {"resnet20": (3, 32, 32), "resnet18": (3, 32, 32), "mobilenetv2": (3, 32, 32)}
STEPS = 31
MOST = 31 / 36
NOISE = 0.01
# Yields are told of the networks that keep at least so much of the multiply-accumulates.
SHARES = (0.75, 0.5, 0.25)


def settings_of(share: float, round_to: Any) -> PruneSettings:
    """Returns how a network loses that share of each layer's channels."""
    return PruneSettings(method="filter-l1", ratio=share, of="channels", scope="layer", round_to=round_to)


def cut(network: torch.nn.Module, shape: tuple[int, ...], share: float, round_to: Any, path: Path) -> dict[str, Any]:
    """Writes the network without that share of each layer's channels; returns what remains. What is there stays."""
    told = path.with_suffix(".json")
    if told.exists():
        row: dict[str, Any] = read_json(told)
        return row
    found = prune(network, shape, settings_of(share, round_to), None, seed=0)
    smaller = copy.deepcopy(network)
    apply_plan(smaller, found.plan)
    export(smaller, shape, path, ExportSettings(dynamic_batch=False))
    row = {"gone": round(share, 4), "parameters": found.cost_after.parameters, "macs": found.cost_after.macs}
    write_json(told, row)
    return row


def reach(network: torch.nn.Module, shape: tuple[int, ...], round_to: Any) -> float:
    """Returns the largest share of channels that can go, `MOST` or less."""
    low, high = 0.0, MOST
    share = MOST
    while high - low > 1e-3:
        try:
            prune(network, shape, settings_of(share, round_to), None, seed=0)
            low = share
        except NetworkError:
            high = share
        share = (low + high) / 2
    return low


def series(rows: list[dict[str, Any]], reports: list[ProfileReport], whole: dict[str, Any]) -> dict[str, Any]:
    """Returns latencies, inversions and yields of networks that get narrower."""
    for row, report in zip(rows, reports, strict=True):
        assert report.ratio is not None
        row["latency"] = [round(value, 4) for value in (report.ratio.ratio, report.ratio.low, report.ratio.high)]
        row["yield"] = round(1 / report.ratio.ratio / (whole["macs"] / row["macs"]), 3)
    order = sorted(range(len(rows)), key=lambda index: -rows[index]["macs"])
    slower = []
    for wide, narrow in itertools.pairwise(order):
        pair = ratio_of(reports[narrow], reports[wide])
        if rows[narrow]["macs"] < rows[wide]["macs"] and pair.low > 1 + NOISE:
            slower.append({"gone": [rows[wide]["gone"], rows[narrow]["gone"]], "slower_by": round(pair.ratio - 1, 4)})
    large = {share: [row["yield"] for row in rows if row["macs"] >= share * whole["macs"]] for share in SHARES}
    return {
        "inversions": slower,
        "yields": [
            {"of_macs_at_least": share, "least": min(yields), "median": round(float(np.median(yields)), 3)}
            for share, yields in large.items()
        ],
        "networks": rows,
    }


def measured(name: str, folder: Path, blocks: int) -> dict[str, Any]:
    torch.manual_seed(0)
    shape = NETWORKS[name]
    network = networks.get(name)(classes=10).eval()
    export(network, shape, folder / "whole.onnx", ExportSettings(dynamic_batch=False))
    whole = cut(network, shape, 0.0, 1, folder / "same.onnx")
    found = {}
    for way in (1, "auto"):
        most = reach(network, shape, way)
        for step in range(1, STEPS + 1):
            path = folder / f"{way}-{step}.onnx"
            found[way, step] = (path, cut(network, shape, most * step / STEPS, way, path))
    settings = ProfileSettings(blocks=blocks, runs=5, warmup=3, details=False)
    reports = profile([folder / "whole.onnx", *(path for path, _ in found.values())], settings)[1:]
    measured_ones = [(way, row, report) for ((way, _), (_, row)), report in zip(found.items(), reports, strict=True)]
    return {
        "network": name,
        "whole": whole,
        **{
            title: series(
                [row for w, row, _ in measured_ones if w == way], [r for w, _, r in measured_ones if w == way], whole
            )
            for way, title in ((1, "plain"), ("auto", "target_aware"))
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--models", type=Path, help="folder where the cut networks stay, for another start")
    parser.add_argument("--blocks", type=int, default=20)
    parser.add_argument("--network", choices=NETWORKS, action="append", help="default: all")
    arguments = parser.parse_args()
    table = read_table("host")
    if table is None:
        raise SystemExit("there is no table: compress devices calibrate host")
    found = []
    for name in arguments.network or NETWORKS:
        with tempfile.TemporaryDirectory() as temporary:
            folder = (arguments.models or Path(temporary)) / name
            folder.mkdir(parents=True, exist_ok=True)
            found.append(measured(name, folder, arguments.blocks))
        for way in ("plain", "target_aware"):
            one = found[-1][way]
            print(name, way, len(one["inversions"]), one["yields"])
    write_json(
        arguments.output,
        {
            "command": " ".join(["python", "benchmarks/profiling/widths.py", *sys.argv[1:]]),
            "machine": machine_facts(),
            "table": table.protocol,
            "results": found,
        },
    )


if __name__ == "__main__":
    main()
