"""Code of the user's that a model needs, run because the user says so."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medkit.errors import UsageError
from medkit.models.runtimes.base import one_line


def classes_of(path: Path) -> Mapping[str, Any]:
    """Run a Python file, and return the classes and functions that it defines, by name.

    Parameters
    ----------
    path
        The file. It runs with all rights of the user.

    Raises
    ------
    UsageError
        If it cannot be read, or fails.
    """
    import inspect
    import runpy

    if not path.is_file():
        raise UsageError(f"no file {path}; --trust-code takes the Python file of the layers")
    try:
        defined = runpy.run_path(str(path), run_name="medkit_trusted_code")
    except Exception as error:
        # The file may raise anything.
        raise UsageError(
            f"{path} cannot be run ({type(error).__name__}: {one_line(error)}); correct it"
        ) from error
    return {
        name: value
        for name, value in defined.items()
        if inspect.isclass(value) or inspect.isfunction(value)
    }
