"""Which channels go: criteria and searches that choose them, regularizers that prepare the choice.

`prune` chooses, and returns a plan; `methods` lists what there is. One method a file, one registration line.
"""

from compress.prune.binding import bind_regularizer
from compress.prune.catalogue import MethodInfo, methods
from compress.prune.driver import PruneResult, prune
from compress.prune.masks import ChannelMask
from compress.prune.problem import PruningProblem
from compress.prune.weights import prepare_weights
from compress.verbs import callable_module

__all__ = [
    "ChannelMask",
    "MethodInfo",
    "PruneResult",
    "PruningProblem",
    "bind_regularizer",
    "methods",
    "prepare_weights",
    "prune",
]

callable_module(__name__, prune)
