"""Batches: from files and folders to one row for each image, and on after an interruption."""
