"""Which channels go: criteria and searches that choose them, regularizers that prepare the choice.

`prune` chooses, and returns a plan; `methods` lists what there is. One method a file, one registration line.
"""

from compress.catalogue import MethodInfo
from compress.prune.binding import bind_regularizer
from compress.prune.catalogue import methods
from compress.prune.driver import PruneResult, prune
from compress.prune.masks import ChannelMask, WeightMask
from compress.prune.problem import PruningProblem
from compress.prune.procedure import Procedure, run_schedule
from compress.prune.trainer import Trainer
from compress.prune.treatments import Survivors, treatment_of
from compress.verbs import callable_module

__all__ = [
    "ChannelMask",
    "MethodInfo",
    "Procedure",
    "PruneResult",
    "PruningProblem",
    "Survivors",
    "Trainer",
    "WeightMask",
    "bind_regularizer",
    "methods",
    "prune",
    "run_schedule",
    "treatment_of",
]

callable_module(__name__, prune)
