"""Rewriting ONNX graphs so that dead channels are really gone. The only part that imports onnx_graphsurgeon."""

from compress.rewrite.explain import Explanation, explain
from compress.rewrite.verb import RewriteResult, rewrite, rewrite_file
from compress.verbs import callable_module

__all__ = ["Explanation", "RewriteResult", "explain", "rewrite", "rewrite_file"]

callable_module(__name__, rewrite)
