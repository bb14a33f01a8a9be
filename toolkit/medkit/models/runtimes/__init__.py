"""Runtimes: the libraries that run model files, each in a module of its own."""
