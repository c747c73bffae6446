"""Models as their authors released them, untouched: what a rewrite takes out of them, and what that is worth.

    python benchmarks/peers/released.py --output benchmarks/peers/released.json [--model TEXT] [--again]

The latency ratio is that of alternating blocks on this machine, with its 95 % interval; see `compress profile`.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from cases import RELEASED
from weights import channel_pairs, load

from compress.artifact import write_json
from compress.errors import CompressError
from compress.onnx_io.file import write_model
from compress.pipeline.machine import machine_facts
from compress.profiling import profile
from compress.recipe import ProfileSettings
from compress.rewrite import rewrite


def measure(path: Path, folder: Path) -> dict[str, object]:
    result = rewrite(path)
    row: dict[str, object] = {
        "pairs_before": channel_pairs(load(path)),
        "pairs_after": channel_pairs(result.model),
        **{name: value for name, value in result.to_dict().items() if name not in ("blocked", "notes")},
        "notes": result.notes,
        "constant_channels_that_stay": sum(entry.channels for entry in result.blocked),
    }
    after = folder / "after.onnx"
    write_model(result.model, after)
    try:
        before, rewritten = profile([path, after], ProfileSettings())
    except CompressError as error:
        return row | {"latency": {"error": str(error).replace(f"{path.parent}/", "").replace(f"{folder}/", "")}}
    ratio = rewritten.ratio
    times = {"before_us": before.minimum, "after_us": rewritten.minimum}
    return row | {"latency": {"ratio": ratio.ratio, "low": ratio.low, "high": ratio.high, **times}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--model", default="", help="part of a file's name")
    parser.add_argument("--again", action="store_true", help="measure what the file already has anew")
    arguments = parser.parse_args()
    rows = json.loads(arguments.output.read_text())["rows"] if arguments.output.exists() else {}
    for path in sorted(RELEASED.glob("*.onnx")):
        if arguments.model not in path.stem or (path.stem in rows and not arguments.again):
            continue
        with tempfile.TemporaryDirectory() as folder:
            rows[path.stem] = row = measure(path, Path(folder))
        sys.stderr.write(f"{path.stem}: pairs {row['pairs_before']} → {row['pairs_after']}, {row['latency']}\n")
        load_average = [round(value, 1) for value in os.getloadavg()]
        write_json(arguments.output, {"machine": machine_facts(), "load_average": load_average, "rows": rows})


if __name__ == "__main__":
    main()
