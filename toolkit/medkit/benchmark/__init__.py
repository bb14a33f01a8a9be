"""Benchmarks: how fast a folder gets through, against the machine and other tools."""
