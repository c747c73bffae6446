"""Compares what a rewrite leaves of a tiny network with the smallest exact cut."""

from dataclasses import dataclass, replace

import numpy as np
from onnx import numpy_helper
from oracle import smallest, weighted
from tiny_networks import cut, run, to_onnx

from compress.onnx_io.metadata import strip_metadata
from compress.onnx_io.session import session
from compress.rewrite import rewrite

EQUAL = 1e-5
MANY, SCALES = 200, [1, 3, 10]
AGREEMENTS = {
    "equal": "as small as the smallest exact cut",
    "below": "nothing is larger, and more went than cuts can: a layer, an operand, a tie, an order, a twin, a place",
    "accident": "the smallest, unless signs count: sums that a ReLU or a clip always cuts off, though no zero says so",
    "kept": "a smaller network would need a larger file",
}


@dataclass(frozen=True)
class Verdict:
    """How the two compare.

    Attributes:
        kind: one of AGREEMENTS, or a disagreement: ``larger``, ``uneven`` (larger, as constants that differ from place
            to place stay), ``choice`` (larger, though no layer makes more channels), ``smaller``, ``wrong`` (outputs),
            ``grown``, ``unsettled`` (a second rewrite changes something), ``model`` (the two readings of the network
            differ).
        detail: of a disagreement.
        weights: numbers in the weights before, of the smallest cut, and after the rewrite.
        units: how many units could go.
        tried: cuts that were computed.
        complete: whether every smaller subset was tried.
        as_many: whether no layer produces more channels than it does in the smallest cut.
    """

    kind: str
    detail: str = ""
    weights: tuple = (0, 0, 0)
    units: int = 0
    tried: int = 0
    complete: bool = False
    as_many: bool = False

    @property
    def agrees(self):
        return self.kind in AGREEMENTS


def judge(network, samples):
    """Rewrites the network and judges the result."""
    feeds = {"input": samples.astype(np.float32)}
    expected = run(network, {"input": samples.astype(np.float32)})
    expected = [expected[name] for name in network.outputs]
    model = to_onnx(network)
    before = _outputs(model, feeds)
    own = _distance(expected, before)
    if own > 10 * EQUAL:
        return Verdict("model", f"the outputs differ by {own:.3g}")
    result = rewrite(model)
    left_out = [note for note in result.notes if "left out" in note or "kept" in note]
    if not result.proven or [note for note in left_out if "would become" not in note]:
        return Verdict("wrong", str(result.notes))
    # In float32 the original itself is off where numbers cancel out.
    if (found := _distance(expected, _outputs(result.model, feeds))) > max(EQUAL, 4 * own):
        return Verdict("wrong", f"the outputs are off by {found:.3g}, those of the original by {own:.3g}")
    for size in ("params", "macs", "file_bytes"):
        before, after = getattr(result, f"{size}_before"), getattr(result, f"{size}_after")
        if after > before:
            return Verdict("grown", f"{size}: {before} → {after}")
    again = rewrite(result.model)
    if strip_metadata(again.model).SerializeToString() != strip_metadata(result.model).SerializeToString():
        return Verdict("unsettled", str(again.notes))
    verdict = _compare(network, samples, result, left_out)
    if verdict.kind == "larger":
        # A cut that is exact on a few samples may not be on many.
        random = np.random.default_rng(0)
        more = random.standard_normal((MANY, *samples.shape[1:])) * random.choice(SCALES, MANY).reshape(
            -1, *[1] * (samples.ndim - 1)
        )
        samples = np.concatenate([samples, more])
        verdict = _compare(network, samples, result, left_out)
    if verdict.kind != "larger":
        return verdict
    for kind, options in (("uneven", {"flat": True}), ("accident", {"flat": True, "apart": True})):
        if _compare(network, samples, result, left_out, **options).agrees:
            return replace(verdict, kind=kind)
    return replace(verdict, kind="choice") if verdict.as_many else verdict


def _compare(network, samples, result, left_out, **options):
    best = smallest(network, samples.astype(np.float32).astype(np.float64), **options)
    ours = _shapes(result.model, network)
    wanted = {op.name: cut(network, best.keep).parameters[op.inputs[1]].shape for op in weighted(network)}
    full = {op.name: network.parameters[op.inputs[1]].shape for op in weighted(network)}
    figures = {
        "weights": tuple(sum(int(np.prod(s)) for s in shapes.values()) for shapes in (full, wanted, ours)),
        "units": int(network.size),
        "tried": best.tried,
        "complete": bool(best.complete),
    }
    if left_out:
        return Verdict("kept", left_out[0], **figures)
    detail = ", ".join(f"{name}: {ours[name]} ≠ {wanted[name]}" for name in ours if ours[name] != wanted[name])
    _, least, found = figures["weights"]
    if any(a > b for name in ours for a, b in zip(ours[name], wanted[name], strict=True)):
        tie = ours.keys() == wanted.keys() and found == least
        as_many = all(_rows(op, ours) <= _rows(op, wanted) for op in weighted(network) if op.name in ours)
        return Verdict("equal" if tie else "larger", detail, **figures, as_many=as_many)
    if found == least:
        return Verdict("equal", **figures)
    shuffled = any(op.kind == "shuffle" for op in network.ops)
    said = ["known value", "of zero", "became Pad", "merged", "of kernels", "no longer read"]
    said += ["changed places"] if shuffled else []
    untied = _untied(result.model, network) or any(words in note for words in said for note in result.notes)
    structure = ours.keys() != wanted.keys() or untied or _ungrouped(network, wanted)
    return Verdict("below", **figures) if structure else Verdict("smaller", detail, **figures)


def _rows(op, shapes):
    """Returns how many channels an operation produces."""
    return (
        0 if op.kind == "batch_norm" else shapes[op.name][0 if op.kind == "conv" or op.options.get("transposed") else 1]
    )


def _ungrouped(network, shapes):
    """Tells whether a grouped convolution came down to one group, or to one channel a group: its ties are gone."""
    grouped = [op for op in network.ops if "rows" in op.grids or op.options.get("depthwise")]
    return any(shapes[op.name][1] == 1 and ("rows" in op.grids or network.units[op.inputs[0]]) for op in grouped)


def _untied(model, network):
    """Tells whether operations that shared a weight have weights of their own, as a carrier makes them."""
    names = {node.name: node.input[1] for node in model.graph.node if len(node.input) > 1}
    pairs = [(op.inputs[1], names[op.name]) for op in weighted(network) if op.name in names]
    return len({before for before, _ in pairs}) < len({after for _, after in pairs})


def _outputs(model, feeds):
    return session(model.SerializeToString()).run(None, feeds)


def _distance(expected, found):
    """Returns the largest difference, relative to the larger of 1 and the sample's largest output."""
    worst = 0.0
    for a, b in zip(expected, found, strict=True):
        if a.shape != b.shape or not np.isfinite(b).all():
            return np.inf
        # Each sample has its own magnitude.
        scale = np.abs(a).reshape(len(a), -1).max(axis=1).clip(1)
        worst = max(worst, (np.abs(a - b).reshape(len(a), -1).max(axis=1) / scale).max())
    return worst


def _shapes(model, network):
    """Returns the shape of the weight of each operation that is left."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = {node.name: node for node in model.graph.node}
    names = [op.name for op in weighted(network) if op.name in nodes]
    return {name: numpy_helper.to_array(weights[nodes[name].input[1]]).shape for name in names}
