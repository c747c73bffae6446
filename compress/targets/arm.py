"""ONNX Runtime on ARM.

float32 is smooth: a step of some 5 % after each multiple of 4, which no dead channel is worth. int8: depthwise
convolutions are about three times cheaper at multiples of 8, 1×1 ones 6 … 14 %; dense ones are nearly flat,
all in counted instructions of a Cortex-A53.
"""

from compress.targets import targets
from compress.targets.known_steps import Block, KnownSteps, Step

targets.register("arm")(
    KnownSteps(
        ("aarch64", "arm64", "armv8l", "armv7l"),
        (
            Step(8, kinds=("depthwise",), role="out", element="int8", growth=3.0),
            Step(8, kinds=("pointwise",), role="in", element="int8", growth=1.1),
            Step(8, kinds=("pointwise",), role="out", element="int8", growth=1.1),
        ),
        (
            Block(4, kinds=("dense", "pointwise"), role="out", element="float32"),
            Block(8, kinds=("pointwise", "depthwise"), role="out", element="int8"),
        ),
    )
)
