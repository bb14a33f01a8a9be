"""Outputs: one module for each format that rows are written in."""
