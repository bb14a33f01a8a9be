"""The command line: ``medkit`` and its commands."""
