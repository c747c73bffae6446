"""Machines at the other end of a shell: what is there, and one visit that leaves nothing behind."""
