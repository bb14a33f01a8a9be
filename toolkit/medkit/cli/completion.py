"""What a shell completes: names of tasks, runtimes and the like.

Each function takes the context and what is typed so far, as typer asks for
it. The shell completes files itself where nothing else fits.
"""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import typer

from medkit.defaults import AUTO, BALANCED, HIGH_SENSITIVITY
from medkit.errors import UsageError


def tasks(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the tasks that the given folder of models knows."""
    from medkit.tasks import task_names

    given = ctx.params.get("tasks") or ()
    return _begun(incomplete, [name for name in task_names(_trained(ctx)) if name not in given])


def tasks_or_auto(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the tasks, and the word for any of them."""
    from medkit.tasks import task_names

    return _begun(incomplete, [AUTO, *task_names(_trained(ctx))])


def runtimes(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the runtimes, those of plug-ins included."""
    from medkit.models.runtimes.registry import runtimes as known

    _load_plugins(ctx)
    return _begun(incomplete, known())


def runtimes_or_auto(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the runtimes, and the word for the fastest."""
    return [*_begun(incomplete, [AUTO]), *runtimes(ctx, incomplete)]


def operating_points(incomplete: str) -> list[str]:
    """Return the operating points of the shipped models."""
    return _begun(incomplete, [BALANCED, HIGH_SENSITIVITY])


def engines(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the engines, those of plug-ins included."""
    from medkit.batch.engines.registry import engines as known

    _load_plugins(ctx)
    return _begun(incomplete, known())


def precisions(incomplete: str) -> list[str]:
    """Return the precisions of an export."""
    from medkit.models.formats import PRECISIONS

    return _begun(incomplete, PRECISIONS)


def formats(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the formats of an export, those of plug-ins included."""
    from medkit_exporters.formats.registry import known_exporters

    _load_plugins(ctx)
    return _begun(incomplete, known_exporters())


def recipes(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the recipes of the given task, or of all."""
    from medkit.training.recipes import RECIPES

    given = ctx.params.get("task")
    return _begun(incomplete, [name for task, name in RECIPES if given in (None, task)])


def networks(incomplete: str) -> list[str]:
    """Return the networks that a task of one's own can have."""
    from medkit.training.own import NETWORKS

    return _begun(incomplete, NETWORKS)


def policies(incomplete: str) -> list[str]:
    """Return what can be done with images under two labels."""
    from medkit.datasets.conflicts import POLICIES

    return _begun(incomplete, POLICIES)


def _begun(incomplete: str, names: Iterable[str]) -> list[str]:
    """Return the names that begin as typed, each once."""
    return [name for name in dict.fromkeys(names) if name.startswith(incomplete)]


def _trained(ctx: typer.Context) -> Path | None:
    given = ctx.params.get("trained")
    return Path(given) if given else None


def _load_plugins(ctx: typer.Context) -> None:
    """Load what is named before the command; a plug-in that fails completes nothing."""
    from medkit.plugins import load_plugins

    with suppress(UsageError):
        load_plugins(ctx.find_root().params.get("plugins") or ())
