"""Models: their files, cards and manifests, and the runtimes that run them."""
