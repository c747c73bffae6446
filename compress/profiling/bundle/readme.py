"""What a bundle says of itself to whoever finds it on a board."""

from __future__ import annotations

NAME = "README.txt"

_TEXT = """\
{model}, ready to run on {target} with {runtime}.

Copy this folder to the board and run there, in it:

    ./run.sh [THREADS [BLOCKS [RUNS]]]

  THREADS  that an operator may use (default 1)
  BLOCKS   rounds of runs (default 20)
  RUNS     inferences in each (default 10), after 10 that only warm up

It prints one line of JSON. In "models", for the one model:

  blocks      a list a block: the time of each inference in microseconds. The least of all is what an
              inference costs where nothing disturbs it; the median is what to expect.
  load        microseconds to open the model
  before_kb   KiB of memory held before the model was opened
  peak_kb     the most KiB ever held

If it says "error" instead, "reason" tells what the runtime would not do.

feed.bin holds random inputs; the model is run on them.
expected.bin holds the outputs on the machine that made this folder.
outputs.bin is written by run.sh: the outputs on the board.

To compare: the same bytes are the same outputs,

    cmp expected.bin outputs.bin

Another processor may round last digits differently. Copy outputs.bin back into this folder on a machine
with compress, and run there, in it:

    {compare}

It prints the largest difference: about a millionth of the outputs' own size is rounding, much more is a
fault.

manifest.json holds the SHA-256 of every file of this folder as it was made.
"""
# What a reader has to type: one line, in a POSIX shell.
_COMPARE = "python -c 'from compress.profiling.bundle import compare; print(compare())'"


def text(model: str, target: str, runtime: str) -> str:
    """Returns the file's content.

    Args:
        model: name of its file.
        target: architecture.
        runtime: name and version.
    """
    return _TEXT.format(model=model, target=target, runtime=runtime, compare=_COMPARE)
