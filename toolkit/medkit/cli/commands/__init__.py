"""The commands, one module each: a command parses, makes one library call, and shows the result.

These modules, and what else typer reads, do without ``from __future__ import annotations``:
typer would evaluate the strings at every start, which takes longer than anything else it does.
"""
