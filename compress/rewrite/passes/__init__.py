"""The passes of the rewriter, one a file. Each keeps the function of the graph and never makes it larger."""

from compress.registry import Registry
from compress.rewrite.graph_pass import Pass

passes: Registry[Pass] = Registry("pass", "compress.rewrite.passes")
