"""Modules of other packages that register formats, outputs, engines, runtimes or columns.

A plug-in is a module that calls a registry's function when it is imported; see
``docs/extending.md``. It is loaded only if it is named: by the environment
variable ``MEDKIT_PLUGINS``, or by the option ``--plugin`` of the command line.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module

from medkit.errors import UsageError

PLUGINS_VARIABLE = "MEDKIT_PLUGINS"
"""Environment variable that names modules, with commas between them."""


def load_plugins(named: Sequence[str] = ()) -> None:
    """Import plug-ins. One that is loaded already stays as it is.

    Parameters
    ----------
    named
        Modules, beside those that the environment names. Processes that this
        one starts load them, too.

    Raises
    ------
    UsageError
        If a module cannot be imported.
    """
    modules = tuple(dict.fromkeys((*named_plugins(), *filter(None, map(str.strip, named)))))
    for name in modules:
        try:
            import_module(name)
        except (Exception, SystemExit) as error:
            # Whatever a stranger's module raises, it is the module that must be mended.
            raise UsageError(
                f"plug-in {name!r} cannot be imported ({type(error).__name__}: {error}); "
                "correct the module, or name another"
            ) from error
    if named:
        os.environ[PLUGINS_VARIABLE] = ",".join(modules)


def named_plugins() -> tuple[str, ...]:
    """Return the modules that the environment names."""
    names = os.environ.get(PLUGINS_VARIABLE, "").split(",")
    return tuple(dict.fromkeys(filter(None, map(str.strip, names))))
