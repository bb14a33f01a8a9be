"""The version of medkit, which is also the distribution's."""

__version__ = "0.1.0"
