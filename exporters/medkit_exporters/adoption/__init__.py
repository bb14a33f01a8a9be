"""Models that were trained elsewhere, as bundles of medkit's own."""
