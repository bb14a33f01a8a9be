"""Operators of model files, and their types of numbers; one module for each format."""
