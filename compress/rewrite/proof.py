"""The proof of a rewrite: both models give the same outputs, on ordinary and on extreme inputs, and on the user's own.

What a model computes is said by its graph, operator by operator. A runtime that fuses operators gives outputs of its
own, and where large terms cancel, very many are added up, or float16 is rounded to, it may differ from itself by more
than the tolerance. So where two models differ, they are compared once more in plain form: without fusions, with shorter
sums, and in float32. The runtime is compared with itself the same way: see `Judge._excuse`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto

from compress.errors import DataError, ModelFileError
from compress.onnx_io.file import check_model
from compress.onnx_io.parts import FileParts
from compress.onnx_io.process import RunError
from compress.onnx_io.runtime import RemoteSession, borrowed_runtime
from compress.rewrite.difference import Difference, difference
from compress.rewrite.in_float32 import in_float32, widened
from compress.rewrite.samples import Samples
from compress.rewrite.sources import Sources
from compress.rewrite.split_sums import with_split_sums
from compress.rewrite.trials import trials

_DEATHS = 2  # so often may the original crash or hang on inputs of our own choosing
# Both models bear the runtime's noise, so they may be twice as far apart as the original is from itself.
_NOISES = 2


@dataclass(frozen=True)
class Proof:
    """How two models compare.

    Attributes:
        holds: whether all outputs agree within the tolerance.
        max_abs_diff: the largest difference on inputs of ordinary magnitude (1 and below).
        max_rel_diff: the largest difference of any output, relative to the larger of 1 and its largest magnitude.
        reason: why it does not hold.
        comparable: whether the original runs at all; where it does not, nothing can be proven of it.
        runtime_rel_diff: where they agree only in plain form: the largest relative difference between the original and
            itself in that form, on those inputs. None where they agree as they are.
        samples: on how many samples of the user they were compared; None if there were none.
        samples_abs_diff: the largest difference on these.
    """

    holds: bool
    max_abs_diff: float = 0.0
    max_rel_diff: float = 0.0
    reason: str | None = None
    comparable: bool = True
    runtime_rel_diff: float | None = None
    samples: int | None = None
    samples_abs_diff: float = 0.0

    @property
    def unfused(self) -> bool:
        """Whether the models agree within the tolerance only in plain form."""
        return self.runtime_rel_diff is not None


class Judge:
    """Proves results against one original. Both run in a process of their own: what crashes it is a finding.

    It opens the original while the caller does something else, see `opened`.

    Args:
        original: the model that is right by definition; not changed meanwhile.
        tolerance: largest difference, relative to the larger of 1 and the output's largest magnitude.
        samples: real inputs; they are compared first.
        file: where the original was read from, if it was: a large one need not be written a second time then.

    Raises:
        ModelFileError: if the process does not take the original in time.
    """

    def __init__(
        self,
        original: FileParts,
        tolerance: float,
        samples: Samples | None = None,
        file: Path | None = None,
    ) -> None:
        self._model = original.skeleton
        self._tolerance = tolerance
        self._samples = samples
        self._deaths = 0
        self._proof = Proof(True)
        self._files: dict[int, FileParts] = {0: original}
        self._sources: dict[tuple[int, bool], bytes | Path] = {}
        self._resolution = 0.0
        self._sessions: dict[tuple[int, bool], RemoteSession] = {}
        with ExitStack() as stack:
            self._runtime = stack.enter_context(borrowed_runtime())
            self._made = stack.enter_context(closing(Sources()))
            stack.callback(self._forget, 0)
            self._sources[0, False] = self._made.source(original, "before.onnx", file)
            self._sessions[0, False] = self._runtime.open(self._sources[0, False], wait=False)
            self._stack = stack.pop_all()

    def __enter__(self) -> Judge:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def opened(self) -> None:
        """Waits until the original is open. Raises ModelFileError if the runtime refuses it, or dies of it."""
        self._session(0).wait()

    def prove(self, after: FileParts, seed: int = 0, *, once: bool = False) -> Proof:
        """Compares on the samples, on random, zero, large and tiny inputs, and on several sizes of each free axis.

        Args:
            after: what is to be proven.
            seed: of the inputs.
            once: stop at the first drawn inputs that the original takes: for a result whose graph is the original's.

        Raises:
            DataError: if the original does not take the samples.
            ModelFileError: as `opened` does.
        """
        self.opened()
        self._proof = Proof(True)
        try:
            check_model(after.model, "the result")
            self._files[1] = after
            self._session(1)
            self._compare_samples()
            self._compare_trials(seed, once)
        except ModelFileError as error:
            return Proof(False, reason=str(error))
        except _DisproofError as finding:
            return replace(self._proof, holds=False, reason=str(finding))
        finally:
            self._forget(1)
        return self._proof

    def _compare_samples(self) -> None:
        if self._samples is None:
            return
        samples, worst = self._samples, 0.0
        for index, feeds in enumerate(samples.runs):
            expected = self._run(0, feeds)
            if isinstance(expected, RunError):
                raise DataError(f"inputs: the model does not take run {index} of them: {expected}")
            self._compare(feeds, expected, f"the samples of run {index}")
            worst = max(worst, self._last.absolute)
        self._proof = replace(self._proof, samples=samples.count, samples_abs_diff=worst)

    def _compare_trials(self, seed: int, once: bool) -> None:
        compared, refusal = self._proof.samples is not None, "none is of a size that can be tried"
        taken: set[float] = set()
        for trial in trials(self._model, seed):
            if trial.spare and trial.magnitude in taken:
                continue
            for feeds in trial.feeds(self._model):
                expected = self._run(0, feeds)
                if not isinstance(expected, RunError):
                    break
                refusal = str(expected)
                if expected.died:
                    self._deaths += 1
                    if self._deaths > _DEATHS:
                        self._proof = replace(self._proof, comparable=False)
                        raise _DisproofError(f"the original cannot be run: {refusal}")
                    break
            if isinstance(expected, RunError):
                # The original does not take these inputs either: nothing to compare.
                continue
            compared = True
            taken.add(trial.magnitude)
            self._compare(feeds, expected, str(trial), ordinary=trial.ordinary)
            if once:
                break
        if not compared:
            self._proof = replace(self._proof, comparable=False)
            raise _DisproofError(f"the original takes none of the inputs tried: {refusal}")

    def _forget(self, index: int) -> None:
        """Lets a model go; the runtime serves the next."""
        for key in [key for key in self._sessions if key[0] == index]:
            self._sessions.pop(key).close()
        for key in [key for key in self._sources if key[0] == index]:
            del self._sources[key]
        self._files.pop(index, None)

    def _compare(
        self, feeds: Mapping[str, np.ndarray], expected: Sequence[Any], where: str, ordinary: bool = True
    ) -> None:
        found = self._run(1, feeds)
        if isinstance(found, RunError):
            raise _DisproofError(f"it fails where the original runs: {found}")
        self._last = apart = difference(self._session(0).outputs, expected, found)
        if not apart.within(self._tolerance):
            self._excuse(feeds, expected, apart, where)
        proof = self._proof
        self._proof = replace(
            proof,
            max_abs_diff=max(proof.max_abs_diff, apart.absolute if ordinary else 0.0),
            max_rel_diff=max(proof.max_rel_diff, apart.relative),
        )

    def _excuse(self, feeds: Mapping[str, np.ndarray], expected: Sequence[Any], apart: Difference, where: str) -> None:
        """Accepts a difference that is the runtime's own; raises otherwise.

        In plain form both models must agree within the tolerance, or float16's resolution where that is in use, and as
        they are they may be no further apart than the runtime's noise accounts for, which the original shows: its
        outputs as it is beside those in plain form.
        """
        reason = apart.reason or f"output {apart.output!r} differs by {apart.relative:.3g} at {where}"
        first, second = (self._run(index, feeds, plain=True) for index in (0, 1))
        if isinstance(first, RunError) or isinstance(second, RunError):
            raise _DisproofError(reason)
        names = self._session(0).outputs
        noise, plain = difference(names, first, widened(list(expected))), difference(names, first, second)
        # A constant that moves into a bias of float16 is rounded to what that can hold.
        if not plain.within(max(self._tolerance, self._resolution)):
            raise _DisproofError(reason)
        own = max(noise.relative, self._resolution)
        if apart.reason or noise.reason or apart.relative > _NOISES * own:
            raise _DisproofError(f"{reason}, of which the runtime's own noise accounts for {own:.3g}")
        largest = max(noise.relative, self._proof.runtime_rel_diff or 0.0)
        self._proof = replace(self._proof, runtime_rel_diff=largest)

    def _session(self, index: int, plain: bool = False) -> RemoteSession:
        key = (index, plain)
        if key not in self._sessions:
            self._sessions[key] = self._runtime.open(self._source(index, plain), optimized=not plain)
        return self._sessions[key]

    def _source(self, index: int, plain: bool) -> bytes | Path:
        """Returns a model to open, as it is or in plain form."""
        if (index, plain) not in self._sources:
            made, name = self._files[index], ("before", "after")[index]
            if plain:
                wide = in_float32(made.parted)
                split = with_split_sums(wide or made.parted)
                if wide:
                    self._resolution = float(np.finfo(np.float16).eps)
                if not (wide or split):
                    return self._source(index, plain=False)
                made, name = FileParts(split or wide or made.parted), f"{name}.plain"
            self._sources[index, plain] = self._made.source(made, f"{name}.onnx")
        return self._sources[index, plain]

    def _run(self, index: int, feeds: Mapping[str, np.ndarray], plain: bool = False) -> list[Any] | RunError:
        try:
            return self._session(index, plain).run({n: widened(x) for n, x in feeds.items()} if plain else feeds)
        except RunError as error:
            return error
        except ModelFileError as error:
            return RunError(str(error))


class _DisproofError(Exception):
    """Why the models are not proven equal."""


def prove(
    before: ModelProto, after: ModelProto, *, tolerance: float, seed: int = 0, samples: Samples | None = None
) -> Proof:
    """Compares two models; see `Judge`."""
    with Judge(FileParts(before), tolerance, samples) as judge:
        return judge.prove(FileParts(after), seed)
