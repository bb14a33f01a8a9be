"""Evaluation: how good a model is, and whether an export decides like its original."""
