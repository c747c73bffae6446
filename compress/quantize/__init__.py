"""Smaller formats for ONNX files, in bits or in rank: a file in, a file out."""

from compress.quantize.evaluate import onnx_accuracy
from compress.quantize.format import list_formats
from compress.quantize.verb import QuantizeResult, quantize
from compress.verbs import callable_module

__all__ = ["QuantizeResult", "list_formats", "onnx_accuracy", "quantize"]

callable_module(__name__, quantize)
