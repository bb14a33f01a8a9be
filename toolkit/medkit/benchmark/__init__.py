"""Benchmarks: the speed of classifying a folder, against the machine and other tools."""
