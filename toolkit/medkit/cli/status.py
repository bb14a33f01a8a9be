"""Exit statuses beside those of the errors; see :mod:`medkit.errors`."""

SOME_ROWS_FAILED = 3
"""Some images could not be classified; their rows say why."""

INTERRUPTED, PIPE_CLOSED, TERMINATED = 130, 141, 143
"""128 plus the signal's number, as shells report it."""
