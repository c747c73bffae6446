"""ONNX Runtime on x86-64.

float32 convolutions run on blocked channels (NCHWc) where a depthwise one has, or a dense one reads, a multiple of 4
channels; all others fall back to a slower path. Whatever is blocked is padded to the block of 16 (8 without AVX-512):
no larger multiple is faster than 4. A 1×1 or depthwise convolution of fewer than 16 channels is slower than one of 16.
The growths are where chains of convolutions with 4 … 48 channels between them break even: 28×28, AVX-512, one thread.
"""

from compress.targets import targets
from compress.targets.known_steps import Block, KnownSteps, Step

targets.register("x86")(
    KnownSteps(
        ("x86_64", "amd64", "i686", "x86"),
        (
            Step(4, kinds=("depthwise",), role="out", element="float32", growth=1.9),
            Step(4, kinds=("dense", "pointwise"), role="in", element="float32", growth=1.15),
            Step(16, kinds=("depthwise",), role="out", element="float32", growth=3.0, below=16),
            Step(16, kinds=("pointwise",), role="in", element="float32", growth=3.0, below=16),
        ),
        (Block(16, kinds=("dense", "pointwise", "depthwise"), role="out", element="float32"),),
    )
)
