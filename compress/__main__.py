"""`python -m compress` is `compress`."""

from compress.cli.guard import entry

entry()
