"""Running a network again and again with changed parameters, computing only what a change can reach.

Modules are called in a fixed order, so whatever finished before a parameter was first used cannot depend on it: its
recorded output is handed out instead. A stage, a block, a layer: the largest finished call is replayed as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from compress.errors import NetworkError


@dataclass
class _Call:
    """One call of a module, in the order of calls.

    Attributes:
        module: whose.
        pure: whether it returned one tensor and left its arguments as they were; nothing else is replayed.
        end: time at which it returned.
        following: index of the first call that began after it returned.
        overwritten: whether what it returned is changed in place later on, so that only a copy can be kept.
    """

    module: nn.Module
    pure: bool = False
    end: int = 0
    following: int = 0
    overwritten: bool = False


class Replay:
    """A network that remembers what it computed.

    The network must call its modules in the same order for every input; one that can be traced does. Memory: for each
    distinct starting point, the outputs of the largest calls before it.

    Args:
        network: in evaluation mode; its modules' `forward` is wrapped, so it must be a copy of one's own.
        example: one or more images [N, C, H, W].
        starts: names of the parameters and buffers that will change together, one collection for each kind of change.
    """

    def __init__(self, network: nn.Module, example: Tensor, starts: Sequence[Iterable[str]]) -> None:
        self.network = network
        self._calls: list[_Call] = []
        self._outputs: dict[int, Tensor] = {}
        self._returned: list[tuple[_Call, Tensor, int]] = []
        self._next = 0
        self._clock = 0
        self._handle: Callable[..., Any] = self._discover
        for module in network.modules():
            module.forward = self._wrapped(module, module.forward)
        first_use = self._discovered(example)
        self.starts = [min((first_use.get(name, 0) for name in names), default=0) for names in starts]
        self._recorded = {index for start in set(self.starts) for index in self._before(start)}

    def record(self, images: Tensor) -> Tensor:
        """Runs the network as it is, and remembers. Returns its outputs [N, K]."""
        self._outputs.clear()
        self._handle = self._record
        return self._run(images)

    def run(self, images: Tensor, samples: slice, start: int) -> Tensor:
        """Runs the network on some of the images that were recorded.

        Args:
            images: all images of the last `record`.
            samples: which of them.
            start: entry of `starts`: only parameters of that kind may differ from when it was recorded.

        Returns:
            The outputs of these samples.
        """

        def replay(module: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any, index: int) -> Any:
            call = self._calls[index]
            if index in self._outputs and call.end < start:
                self._next = call.following
                output = self._outputs[index][samples]
                return output.clone() if call.overwritten else output
            return forward(*args, **kwargs)

        self._handle = replay
        return self._run(images[samples])

    def _run(self, images: Tensor) -> Tensor:
        self._next = 0
        with torch.no_grad():
            outputs: Tensor = self.network(images)
        return outputs

    def _wrapped(self, module: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            index = self._next
            self._next += 1
            if self._handle != self._discover and (
                index >= len(self._calls) or self._calls[index].module is not module
            ):
                raise NetworkError(
                    f"the network calls its modules in another order for other images, at {type(module).__name__}",
                    next_step="choose a criterion instead of a search",
                )
            return self._handle(module, forward, args, kwargs, index)

        return call

    def _record(self, module: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any, index: int) -> Any:
        output = forward(*args, **kwargs)
        if index in self._recorded:
            self._outputs[index] = output.clone() if self._calls[index].overwritten else output
        return output

    def _discover(self, module: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any, index: int) -> Any:
        call = _Call(module)
        self._calls.append(call)
        before = [tensor._version for tensor in _tensors((args, kwargs))]
        output = forward(*args, **kwargs)
        untouched = before == [tensor._version for tensor in _tensors((args, kwargs))]
        call.pure, call.end, call.following = untouched and isinstance(output, Tensor), self._clock, self._next
        self._clock += 1
        if call.pure:
            self._returned.append((call, output, output._version))
        return output

    def _discovered(self, example: Tensor) -> dict[str, int]:
        """Runs once; returns when each parameter and buffer was first used. One that is never seen counts as 0."""
        named: list[tuple[str, Tensor]] = [
            *self.network.named_parameters(remove_duplicate=False),
            *self.network.named_buffers(remove_duplicate=False),
        ]
        seen: dict[int, int] = {}
        watched = {id(tensor) for _, tensor in named}
        replay = self

        class Watch(TorchFunctionMode):
            def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                for tensor in _tensors((args, kwargs or {})):
                    if id(tensor) in watched:
                        seen.setdefault(id(tensor), replay._clock)
                        replay._clock += 1
                return func(*args, **(kwargs or {}))

        self._handle = self._discover
        with Watch():
            self._run(example)
        for call, output, version in self._returned:
            call.overwritten = output._version != version
        self._returned.clear()
        return {name: seen.get(id(tensor), 0) for name, tensor in named}

    def _before(self, start: int) -> list[int]:
        """Returns the largest calls that returned one tensor before `start`."""
        found, index = [], 0
        while index < len(self._calls):
            call = self._calls[index]
            if call.pure and call.end < start:
                found.append(index)
                index = call.following
            else:
                index += 1
        return found


def _tensors(value: Any) -> Iterable[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
