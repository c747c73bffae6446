"""Smaller number formats for ONNX files: a file in, a file out."""

from compress.quantize.evaluate import onnx_accuracy
from compress.quantize.format import formats
from compress.quantize.verb import QuantizeResult, quantize
from compress.verbs import callable_module

__all__ = ["QuantizeResult", "formats", "onnx_accuracy", "quantize"]

callable_module(__name__, quantize)
