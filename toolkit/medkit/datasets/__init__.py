"""Data sets on the disk: their layout, conflicts, splits, samples, and an audit of them."""
