"""Made-up figures of a whole run: ResNet-20, and as many layers as a test asks for."""

import math
import random

import pytest

_BLOCKS = [f"layer{stage}.{block}.conv{conv}" for stage in (1, 2, 3) for block in (0, 1, 2) for conv in (1, 2)]


def run_figures(layers=19):
    draw = random.Random(7)
    names = (["conv1", *_BLOCKS] + [f"head.blocks.{index}.attention.projection" for index in range(layers)])[:layers]
    channels, weights = [], []
    for index, name in enumerate(names):
        before = 16 * 2 ** min(2, 3 * index // layers)
        kept = max(2, round(before * draw.uniform(0.35, 0.9)))
        channels.append({"group": index if index % 2 else "residual", "layer": name, "before": before, "kept": kept})
        edges = [round(-0.6 + 1.2 * place / 31, 6) for place in range(32)]
        shape = [math.exp(-((edges[place] + 0.02) ** 2) / 0.02) for place in range(31)]
        old = [round(before * before * 9 * value / sum(shape)) for value in shape]
        weights.append(
            {"layer": name, "edges": edges, "before": old, "after": [round(count * kept / before) for count in old]}
        )

    def history(epochs, peak, start, end):
        rows = []
        for epoch in range(1, epochs + 1):
            done = 1 - math.exp(-4 * epoch / epochs)
            validation = start + (end - start) * done - draw.uniform(0, 1.5) * (1 - epoch / epochs)
            rows.append(
                {
                    "epoch": epoch,
                    "loss": round(0.05 + 1.9 * (100 - start) / 70 * (1 - done), 4),
                    "train_accuracy": round(min(99.9, validation + 6 * done), 2),
                    "validation_accuracy": round(validation, 2),
                    "learning_rate": peak * (1 + math.cos(math.pi * epoch / epochs)) / 2,
                    "seconds": 21.4,
                }
            )
        return rows

    def operators(scale, quantized):
        rows = []
        for index, name in enumerate(names):
            cost = round(scale * draw.uniform(40, 110), 1)
            rows.append({"operator": "Conv", "node": f"/{name}/Conv", "cost": cost, "share": 0.04})
            rows.append({"operator": "Relu", "node": f"/relu_{index}/Relu", "cost": round(scale * 9.0, 1)})
        rows += [{"operator": kind, "node": f"/{kind}", "cost": 6.5} for kind in ("Gemm", "ReduceMean", "Add")]
        if quantized:
            rows += [{"operator": "QuantizeLinear", "node": "/q", "cost": 31.0}]
        return rows

    return {
        "name": "resnet20 on CIFAR-10, half the MACs",
        "recipe": {
            "seed": 3,
            "budget": "budget.toml",
            "model": {"network": "resnet20", "arguments": {"classes": 10}, "checkpoint": None},
            "data": {"source": "cifar-10", "validation": 0.1, "augment": ["crop", "flip"]},
            "train": {"epochs": 40, "learning_rate": 0.1, "regularizer": {"name": "hsq-gl12", "strength": 1e-05}},
            "prune": {"method": "backward-selection", "ratio": 0.5, "of": "macs", "couple": True},
            "quantize": {"format": "int8", "samples": 256},
        },
        "machine": {
            "cpu": "Intel Xeon 8375C, AVX-512 VNNI",
            "cores": 2,
            "os": "Linux 6.1",
            "python": "3.11.2",
            "torch": "2.13.0",
            "onnxruntime": "1.31.1",
            "date": "2026-11-20 09:14",
        },
        "seed": 3,
        "stages": [
            {"name": "train", "seconds": 856.21, "status": "reused", "figures": {"epochs": 40, "best_epoch": 38}},
            {"name": "prune", "seconds": 61.4, "status": "done", "figures": {"channels_removed": 311, "groups": 12}},
            {"name": "compact", "seconds": 0.31, "status": "done", "figures": {"max_abs_diff": 2.4e-07}},
            {"name": "retrain", "seconds": 402.8, "status": "done", "figures": {"epochs": 20}},
            {"name": "export", "seconds": 1.8, "status": "done", "figures": {}},
            {"name": "rewrite", "seconds": 0.42, "status": "done", "figures": {"channels_removed": 9}},
            {"name": "quantize", "seconds": 6.03, "status": "done", "figures": {"samples": 256}},
            {"name": "profile", "seconds": 11.7, "status": "done", "figures": {"device": "host"}},
        ],
        "accuracies": [
            {"stage": "trained", "split": "validation", "accuracy": 91.74},
            {"stage": "trained", "split": "test", "accuracy": 91.62},
            {"stage": "pruned", "split": "test", "accuracy": 86.35},
            {"stage": "compacted", "split": "test", "accuracy": 86.35},
            {"stage": "retrained", "split": "validation", "accuracy": 91.3},
            {"stage": "retrained", "split": "test", "accuracy": 91.18},
            {"stage": "exported", "split": "test", "accuracy": 91.18},
            {"stage": "rewritten", "split": "test", "accuracy": 91.18},
            {"stage": "int8", "split": "test", "accuracy": 91.05},
        ],
        "sizes": {
            "before": {
                "file_bytes": 1100344,
                "parameters": 269722,
                "macs": 40813184,
                "peak_activation_bytes": 196608,
            },
            "after": {"file_bytes": 172801, "parameters": 121488, "macs": 20189440, "peak_activation_bytes": 131072},
        },
        "deployable": {
            "path": "export/resnet20-cifar10/model.int8.onnx",
            "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "format": "ONNX, int8 QDQ",
        },
        "channels": channels,
        "weights": weights,
        "phases": [
            {
                "layer": name,
                "filters": 16,
                "mean": -0.9 + 0.04 * index,
                "random": -0.45,
                "counts": [8, 4, 3, 1, 0],
                "random_counts": [0.5, 3.5, 8.0, 4.0, 0.0],
            }
            for index, name in enumerate(names[:6])
        ],
        "energies": [
            {"epoch": 1, "best_energy": 0.5, "mean_energy": 1.25, "competing": True},
            {"epoch": 2, "best_energy": -2.5, "mean_energy": -1.0, "competing": True},
            {"epoch": 3, "best_energy": -2.0, "mean_energy": -2.0, "competing": False},
        ],
        "training": [
            {"stage": "train", "history": history(40, 0.1, 38.0, 91.7)},
            {"stage": "retrain", "history": history(20, 0.02, 86.0, 91.3)},
        ],
        "latency": [
            {
                "model": "before.onnx",
                "device": "host",
                "p50_ms": 2.413,
                "p90_ms": 2.587,
                "load_ms": 14.2,
                "peak_rss_bytes": 61210624,
                "file_bytes": 1100344,
                "operators": operators(1.0, False),
            },
            {
                "model": "pruned.onnx",
                "device": "host",
                "p50_ms": 1.391,
                "p90_ms": 1.466,
                "ratio": 0.5765,
                "ratio_low": 0.5641,
                "ratio_high": 0.5902,
                "verdict": "faster",
                "load_ms": 12.9,
                "peak_rss_bytes": 59887616,
                "file_bytes": 503112,
                "operators": operators(0.57, False),
            },
            {
                "model": "model.int8.onnx",
                "device": "host",
                "p50_ms": 0.9372,
                "p90_ms": 1.0211,
                "ratio": 0.3884,
                "ratio_low": 0.3722,
                "ratio_high": 0.4051,
                "verdict": "faster",
                "load_ms": 16.4,
                "peak_rss_bytes": 60915712,
                "file_bytes": 172801,
                "operators": operators(0.36, True),
            },
        ],
        "budget": [
            {"name": "file_bytes", "measured": 172801, "limit": 262144, "passed": True},
            {"name": "macs", "measured": 20189440, "limit": 20500000, "passed": True},
            {"name": "peak_activation_bytes", "measured": 131072, "limit": 98304, "passed": False},
            {"name": "accuracy", "measured": 91.05, "limit": 90.5, "passed": True},
            {"name": "accuracy_drop", "measured": 0.57, "limit": 0.6, "passed": True},
            {
                "name": "latency_ratio.host",
                "measured": 0.4051,
                "limit": 0.45,
                "passed": True,
                "note": "upper end of the interval",
            },
            {"name": "operators", "measured": [], "limit": ["Conv", "Relu", "Add"], "passed": True},
        ],
        "rewrite": {
            "params_before": 123902,
            "params_after": 121488,
            "macs_before": 20411392,
            "macs_after": 20189440,
            "file_bytes_before": 512880,
            "file_bytes_after": 503112,
            "channels_removed": 9,
            "max_abs_diff": 4.77e-07,
            "seconds": 0.42,
            "blocked": [
                {
                    "tensor": "layer3.2.conv2.weight",
                    "node": "/layer3.2/Add",
                    "op": "Add",
                    "reason": "the other branch of the residual sum is alive",
                    "channels": 7,
                },
                {
                    "tensor": "linear.weight",
                    "node": "/linear/Gemm",
                    "op": "Gemm",
                    "reason": "graph output",
                    "channels": 1,
                },
            ],
        },
        "notes": [
            "The interval of a latency ratio comes from 20 alternating blocks of 10 runs.",
            "The network before is the one after [train]; it was reused from an earlier run with the same recipe.",
        ],
    }


@pytest.fixture
def figures():
    return run_figures()


@pytest.fixture
def few_layers():
    return run_figures(3)


@pytest.fixture
def many_layers():
    return run_figures(60)
