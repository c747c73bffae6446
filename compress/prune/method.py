"""What every pruning method answers: what remains of a network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from compress.channels.graph import Array
from compress.recipe import PruneSettings

if TYPE_CHECKING:
    from compress.prune.problem import PruningProblem
    from compress.prune.trainer import Trainer

Progress = Callable[[float, str], None]  # share of the work that is done, 0…1, and a word on where it stands


@dataclass(frozen=True)
class Choice:
    """What remains.

    Attributes:
        keep: which units remain, over all groups in turn. Shape: (units,), booleans.
        held: where single weights go: parameter → which of its weights remain (booleans of its shape).
        values: new values of parameters and buffers, by name and of their shape, for methods that reconstruct or train.
        details: what the method has to tell, as a JSON value.
    """

    keep: Array
    held: Mapping[str, Array] = field(default_factory=dict)
    values: Mapping[str, Array] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)


class Method(ABC):
    """A method is a frozen dataclass whose fields are its knobs.

    Attributes:
        trains: whether it needs a trainer.
    """

    trains: ClassVar[bool] = False

    @abstractmethod
    def choose(
        self,
        problem: PruningProblem,
        settings: PruneSettings,
        *,
        trainer: Trainer | None = None,
        progress: Progress | None = None,
    ) -> Choice:
        """Chooses what remains. The problem is not changed.

        Args:
            problem: the network and the samples.
            settings: how much is to go, and what must not.
            trainer: trains networks, for methods that need it; None where nothing can be trained.
            progress: called now and then.

        Raises:
            NetworkError: if the ratio cannot be reached.
            DataError: if the method looks at data, or trains, and there are none.
        """

    def unit_ratio(self, settings: PruneSettings, problem: Callable[[], PruningProblem]) -> float:
        """Returns the ratio to ask this method for, so that a share of the whole network's cost goes.

        Args:
            settings: `ratio` is that share, of what `of` says.
            problem: makes the network's problem, where it is needed to tell.

        Raises:
            NetworkError: if so much cannot go.
        """
        return settings.ratio
