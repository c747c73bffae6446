"""Whether a rewrite leaves the smallest exact network: thousands of tiny ones against brute force.

    PYTHONPATH=.:tests python benchmarks/minimality/campaign.py --seeds 0 5000 --log minimality.log \
        --output benchmarks/minimality/minimality.json

Each seed draws a network of up to about a dozen channels (tests/tiny_draws.py), rewrites it twice, and looks for the
smallest exact cut by trying (tests/oracle.py). The log holds one line of JSON a seed; seeds that stand in it are not
done again, so a campaign can be stopped, resumed and spread over processes with a log each. Disagreements are written
with their seed; `--seeds 17 18` alone does one again. What a rewrite is known to leave behind is counted by reason, see
tests/minimality.py: sums that are always cut off.
"""

import argparse
import json
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from minimality import AGREEMENTS, judge
from tiny_draws import draw

from compress.artifact import write_json
from compress.pipeline.machine import machine_facts

BUDGETS = (8, 10, 12, 14)  # units of a network, in turn


def done(logs: list[Path]) -> dict[int, dict]:
    lines = [line for log in logs if log.exists() for line in log.read_text().splitlines()]
    return {row["seed"]: row for row in map(json.loads, lines)}


def one(seed: int) -> dict:
    start = time.perf_counter()
    network, samples = draw(seed, BUDGETS[seed % len(BUDGETS)])
    verdict = judge(network, samples)
    kinds = sorted({named(op) for op in network.ops})
    return {"seed": seed, **asdict(verdict), "operations": kinds, "seconds": round(time.perf_counter() - start, 3)}


def named(op) -> str:
    parts = max((len(grid) for grid in op.grids.values()), default=1)
    many = {"conv": "conv in groups", "attention": "attention of two heads"}
    return "depthwise conv" if op.options.get("depthwise") else many.get(op.kind, op.kind) if parts > 1 else op.kind


def summary(rows: list[dict]) -> dict:
    counts = Counter(row["kind"] for row in rows)
    compared = [row for row in rows if row["weights"][0]]
    return {
        "cases": len(rows),
        "as_small_or_smaller": counts["equal"] + counts["below"],
        "larger_for_a_known_reason": sum(counts[kind] for kind in AGREEMENTS) - counts["equal"] - counts["below"],
        "disagreements": [row for row in rows if row["kind"] not in AGREEMENTS],
        "verdicts": {kind: {"cases": cases, "meaning": AGREEMENTS.get(kind)} for kind, cases in counts.most_common()},
        "every_smaller_subset_tried": sum(row["complete"] for row in rows),
        "cuts_computed": sum(row["tried"] for row in rows),
        "something_could_go": sum(row["weights"][1] < row["weights"][0] for row in compared),
        "weights": dict(
            zip(("before", "smallest_cut", "rewritten"), map(sum, zip(*(r["weights"] for r in compared), strict=True)),
                strict=True)
        ),
        "operations": dict(Counter(kind for row in rows for kind in row["operations"]).most_common()),
        "seeds": [min(row["seed"] for row in rows), max(row["seed"] for row in rows)],
        "seconds": round(sum(row["seconds"] for row in rows)),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs=2, metavar=("FIRST", "AFTER_LAST"), default=(0, 0))
    parser.add_argument("--log", type=Path, nargs="+", default=[], help="the first is written to, all are read")
    parser.add_argument("--output", type=Path, help="the summary of all logs")
    arguments = parser.parse_args()
    rows = done(arguments.log)
    for seed in range(*arguments.seeds):
        if seed in rows:
            continue
        rows[seed] = one(seed)
        if rows[seed]["kind"] not in ("equal", "below"):
            sys.stdout.write(json.dumps(rows[seed]) + "\n")
        if arguments.log:
            with arguments.log[0].open("a") as log:
                log.write(json.dumps(rows[seed]) + "\n")
    found = summary([rows[seed] for seed in sorted(rows)])
    sys.stdout.write(json.dumps(found, indent=2) + "\n")
    if arguments.output:
        write_json(arguments.output, {"machine": machine_facts(), **found})


if __name__ == "__main__":
    main()
