"""Models that run where there is no Python: loader, libraries, ONNX Runtime and a small runner, in one folder."""

from compress.profiling.bundle.compare import compare
from compress.profiling.bundle.make import Bundle, bundle

__all__ = ["Bundle", "bundle", "compare"]
