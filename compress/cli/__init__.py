"""The command line: parse, call one verb, print. One command a file; heavy imports happen in the command itself."""

from compress.cli.app import main

__all__ = ["main"]
