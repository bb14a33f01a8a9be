"""Views of results on the terminal, one module for each command."""
